/**
 * What scopes an operation needs: those of its root fields, each of which says its own (`extensions: { scope }`). Known once per document
 * and checked as a whole, before anything of it is executed, on every way in. A field that says nothing needs `admin`.
 */
import {
  type DocumentNode,
  GraphQLError,
  type GraphQLSchema,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'graphql'
import type { Plugin } from 'graphql-yoga'
import type { Grant, Scope } from './access.ts'
import type { Context } from './builder.ts'
import { httpStatus } from './errors.ts'

/** Of a valid document: every name in it is known. */
export function scopesOf(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
): ReadonlySet<Scope> {
  const fields = schema.getRootType(operation.operation)!.getFields()
  const needed = new Set<Scope>()
  // Each once: fragments that spread each other twice would be looked at more often than there are atoms.
  const spread = new Set<string>()
  const collect = ({ selections }: SelectionSetNode): void => {
    for (const selection of selections) {
      if (selection.kind === Kind.FIELD) {
        const name = selection.name.value
        // About the schema: for everybody, where it may be asked for at all.
        if (!name.startsWith('__')) needed.add((fields[name]?.extensions.scope as Scope | undefined) ?? 'admin')
      } else if (selection.kind === Kind.INLINE_FRAGMENT) {
        collect(selection.selectionSet)
      } else if (!spread.has(selection.name.value)) {
        spread.add(selection.name.value)
        for (const node of document.definitions) {
          if (node.kind === Kind.FRAGMENT_DEFINITION && node.name.value === selection.name.value)
            collect(node.selectionSet)
        }
      }
    }
  }
  collect(operation.selectionSet)
  return needed
}

export function covers(grant: Grant, needed: ReadonlySet<Scope>): boolean {
  for (const scope of needed) if (!grant.scopes.has(scope)) return false
  return true
}

interface Executing {
  args: {
    schema: GraphQLSchema
    document: DocumentNode
    operationName?: string | null | undefined
    contextValue?: unknown
  }
  setResultAndStopExecution(result: { errors: GraphQLError[] }): void
}

/** For Yoga, which executes what the fast path does not. */
export const onlyWithScopes: Plugin = {
  onExecute: (executing) => check(executing as unknown as Executing),
  onSubscribe: (executing) => check(executing as unknown as Executing),
}

function check({ args, setResultAndStopExecution }: Executing): undefined {
  const { schema, document, operationName, contextValue } = args
  const operations = document.definitions.filter((node) => node.kind === Kind.OPERATION_DEFINITION)
  // Which one it is to be, or that it cannot be told, is for the execution to say.
  const operation = operationName ? operations.find(({ name }) => name?.value === operationName) : operations[0]
  if (!operation) return
  const { grant } = contextValue as Context
  const missing = [...scopesOf(schema, document, operation)].filter((scope) => !grant.scopes.has(scope))
  if (missing.length === 0) return
  const message = `This needs a token with the scope ${missing.map((scope) => JSON.stringify(scope)).join(' and ')}.`
  setResultAndStopExecution({
    errors: [new GraphQLError(message, { extensions: { code: 'FORBIDDEN', http: { status: httpStatus.FORBIDDEN } } })],
  })
}
