/** A template makes of each event the text that the executed document makes. */
import fc from 'fast-check'
import { execute, getOperationAST, parse, validate } from 'graphql'
import { expect, test } from 'vitest'
import { type Template, templateOf } from '../../src/graphql/event-template.ts'
import { makeSchema } from '../../src/graphql/schema.ts'
import { everyField, everyRow } from '../harness/every-row.ts'
import { datamodelOf, models } from '../harness/models.ts'
import { type Written, written } from '../harness/ways.ts'

const schema = makeSchema(models, { datamodel: datamodelOf() })

const fields = fc.subarray(['__typename', 'again: id', '__proto__: savedAt', ...everyField], { minLength: 1 })
const document = fields.chain((some) =>
  written({
    kind: 'subscription',
    field: 'everySaved',
    argument: { name: 'after', type: 'String', value: 'a cursor' },
    type: 'EverySaved',
    selection: ['cursor __typename', `every { ${some.join(' ')} } every { ... on Node { id } }`],
  }),
)

function prepared({ query, variables, operationName }: Written) {
  const node = parse(query)
  expect(validate(schema, node)).toEqual([])
  const operation = getOperationAST(node, operationName)!
  return {
    template: templateOf({ schema, node, operation }, variables),
    executed: (rootValue: unknown) =>
      execute({ schema, document: node, operationName, variableValues: variables, rootValue, contextValue: {} }),
  }
}

test('A template makes the text that the executed document makes, of every column type and however it is written', () => {
  fc.assert(
    fc.property(document, everyRow, (what, row) => {
      const { template, executed } = prepared(what)
      const root = { cursor: 'a cursor', row }
      expect(template!(root)).toBe(JSON.stringify(executed(root)))
    }),
    { numRuns: 100 },
  )
})

const write = (query: string): Template | undefined => prepared({ query, variables: {} }).template

test.each([
  ['a resolver of its own', '{ memoSaved { memo { id letters } } }'],
  ['a source of its own', '{ queue { depth } }'],
])('A document with %s has no template', (_why, selection) => {
  expect(write(`subscription ${selection}`)).toBeUndefined()
})

test.each([
  ['no value for a required column', { cursor: 'a', row: { id: null } }],
  ['a value that its type does not have', { cursor: 'a', row: { id: {} } }],
  ['no row', { cursor: 'a', row: null }],
])('An event with %s is left to the executor, which returns the error', (_what, root) => {
  expect(write('subscription { everySaved { cursor every { id } } }')!(root)).toBeUndefined()
})
