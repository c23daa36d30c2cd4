/**
 * A rule of validation: a document asks for no value more than twice. Aliases on several levels multiply: with five on each of three,
 * every content of a page is in the answer 125 times, whatever the number of rows.
 */
import {
  type ASTVisitor,
  type FragmentDefinitionNode,
  GraphQLError,
  Kind,
  print,
  type SelectionSetNode,
  type ValidationContext,
} from 'graphql'

const mostCopies = 2
/** Fields that are looked at, whatever fragments repeat; a circle of them ends here, too. */
const mostFields = 5_000

export function fewCopies(context: ValidationContext): ASTVisitor {
  return {
    OperationDefinition({ selectionSet }) {
      let left = mostFields
      const spend = () => {
        left -= 1
        return left > 0
      }
      // What stands at the root is asked for by itself, and bounded by rows.
      for (const { sets } of fieldsOf([selectionSet], context).values()) {
        const copies = copiesOf(sets, context, spend)
        if (left > 0 && [...copies.values()].every((count) => count <= mostCopies)) continue
        const message = `A document may ask for the same value ${mostCopies} times at most; leave out aliases and repeated fragments.`
        context.reportError(new GraphQLError(message))
        return
      }
    },
  }
}

interface Field {
  /** Its name and arguments: what tells a value from another one. */
  value: string
  sets: SelectionSetNode[]
}

/** By the name that each has in the answer; those that merge are one. */
function fieldsOf(sets: readonly SelectionSetNode[], context: ValidationContext): Map<string, Field> {
  const fields = new Map<string, Field>()
  const spread = new Set<FragmentDefinitionNode>()
  const collect = ({ selections }: SelectionSetNode) => {
    for (const selection of selections) {
      if (selection.kind === Kind.FIELD) {
        const { name, alias, selectionSet } = selection
        const key = (alias ?? name).value
        const known = fields.get(key)
        const field = known ?? { value: `${name.value}(${(selection.arguments ?? []).map(print)})`, sets: [] }
        if (!known) fields.set(key, field)
        if (selectionSet) field.sets.push(selectionSet)
      } else if (selection.kind === Kind.INLINE_FRAGMENT) {
        collect(selection.selectionSet)
      } else {
        const fragment = context.getFragment(selection.name.value)
        if (!fragment || spread.has(fragment)) continue
        spread.add(fragment)
        collect(fragment.selectionSet)
      }
    }
  }
  for (const set of sets) collect(set)
  return fields
}

/** How often each value below is asked for, by the way to it. */
function copiesOf(
  sets: readonly SelectionSetNode[],
  context: ValidationContext,
  spend: () => boolean,
): Map<string, number> {
  const copies = new Map<string, number>()
  const add = (way: string, count: number) => copies.set(way, (copies.get(way) ?? 0) + count)
  for (const { value, sets: below } of fieldsOf(sets, context).values()) {
    if (!spend()) break
    if (below.length === 0) add(value, 1)
    else for (const [way, count] of copiesOf(below, context, spend)) add(`${value} ${way}`, count)
  }
  return copies
}
