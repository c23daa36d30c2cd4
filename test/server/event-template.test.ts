/** A template makes of each event the text that the executed document makes. */
import { Decimal } from 'decimal.js'
import fc from 'fast-check'
import { execute, getOperationAST, parse, validate } from 'graphql'
import { expect, test } from 'vitest'
import { type Template, templateOf } from '../../src/graphql/event-template.ts'
import { makeSchema } from '../../src/graphql/schema.ts'
import type { ColumnType } from '../../src/model/table.ts'
import { datamodelOf, Every, models } from '../harness/models.ts'
import { type Written, written } from '../harness/ways.ts'

const schema = makeSchema(models, { datamodel: datamodelOf() })

const values: Record<ColumnType, fc.Arbitrary<unknown>> = {
  String: fc.string({ unit: 'binary' }),
  Int: fc.integer(),
  BigInt: fc.bigInt(),
  Float: fc.double({ noNaN: true, noDefaultInfinity: true }),
  Decimal: fc.constantFrom('0', '12.50', '-1e-20', '123456789012345678901234567890.5').map((text) => new Decimal(text)),
  Boolean: fc.boolean(),
  DateTime: fc.date({ min: new Date('1000-01-01'), max: new Date('9999-12-31'), noInvalidDate: true }),
  Json: fc.json().map((text) => JSON.parse(text) ?? {}),
  Bytes: fc.uint8Array({ maxLength: 8 }),
  Enum: fc.constantFrom('HAPPY', 'SAD'),
}

const dates = { createdAt: values.DateTime, savedAt: values.DateTime }
const row = fc.record({
  id: fc.uuid(),
  ...dates,
  ...Object.fromEntries(
    Every.columns.map(({ name, type, nullable }) => [name, nullable ? fc.option(values[type]) : values[type]]),
  ),
})

const fields = fc.subarray(
  [
    'id',
    '__typename',
    'again: id',
    '__proto__: savedAt',
    ...Object.keys(dates),
    ...Every.columns.map(({ name }) => name),
  ],
  { minLength: 1 },
)
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
    fc.property(document, row, (what, row) => {
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
