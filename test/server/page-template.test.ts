/** A template makes of a page of rows the text that the executed document makes, and renders each row once for all documents. */
import fc from 'fast-check'
import { execute, type GraphQLSchema, getOperationAST, parse, validate } from 'graphql'
import { describe, expect, test } from 'vitest'
import { pageTemplateOf } from '../../src/graphql/page-template.ts'
import { makeSchema } from '../../src/graphql/schema.ts'
import type { Row } from '../../src/model/model.ts'
import { everyField, everyRow } from '../harness/every-row.ts'
import { datamodelOf, models } from '../harness/models.ts'
import { type Written, written } from '../harness/ways.ts'

const schema: GraphQLSchema = makeSchema(models, { datamodel: datamodelOf() })

const fields = fc.subarray(['__typename', 'again: id', '... on Node { id }', ...everyField], { minLength: 1 })
const document = fields.chain((some) =>
  written({
    kind: 'query',
    field: 'everything',
    argument: { name: 'first', type: 'Int', value: 3 },
    type: 'EveryConnection',
    selection: [
      `edges { cursor node { ${some.join(' ')} } } edges { node { id } __typename }`,
      'pageInfo { hasNextPage hasPreviousPage startCursor endCursor } savedCursor __typename',
    ],
  }),
)

function prepared({ query, variables, operationName }: Written, rows: readonly Row[]) {
  const node = parse(query)
  expect(validate(schema, node)).toEqual([])
  const operation = getOperationAST(node, operationName)!
  const contextValue = () => ({
    app: { rows: { page: async () => rows } },
    grant: {},
    savedCursor: 'a cursor of events',
  })
  return {
    template: pageTemplateOf({ schema, node, operation }),
    context: contextValue(),
    executed: () =>
      execute({ schema, document: node, operationName, variableValues: variables, contextValue: contextValue() }),
  }
}

test('A template makes the text that the executed document makes, of every column type and however it is written', async () => {
  let templates = 0
  await fc.assert(
    fc.asyncProperty(document, fc.array(everyRow, { maxLength: 4 }), async (what, rows) => {
      const { template, context, executed } = prepared(what, rows)
      if (!template) expect(what.query).toMatch(/@|queue/)
      else {
        templates += 1
        expect(await template(context, what.variables)).toBe(JSON.stringify(await executed()))
      }
    }),
    { numRuns: 200 },
  )
  expect(templates).toBeGreaterThan(5)
})

const page = (query: string, rows: readonly Row[] = []) => {
  const { template, context } = prepared({ query, variables: {} }, rows)
  return template?.(context, {})
}

describe('A template', () => {
  test.each([
    ['a field of a model of its own', '{ memos { edges { node { id letters } } } }'],
    ['a directive', '{ contents { edges { node { id @include(if: true) } } } }'],
    ['a field that is no list', '{ contents { savedCursor } queue { depth } }'],
  ])('is not made of a document with %s', (_why, query) => {
    expect(page(query)).toBeUndefined()
  })

  const all = '{ contents { edges { node { id content } } } }'
  const at = new Date(0)
  const content = { id: '1', content: 'a', createdAt: at, savedAt: at } as unknown as Row

  test.each([
    ['no value for a required column', { ...content, content: null }],
    ['a value that its type does not have', { ...content, content: {} }],
  ])('leaves a page with %s to the executor, which returns the error', async (_what, wrong) => {
    expect(await page(all, [content])).toBe('{"data":{"contents":{"edges":[{"node":{"id":"1","content":"a"}}]}}}')
    expect(await page(all, [content, wrong as unknown as Row])).toBeUndefined()
  })

  test('renders a row once for all documents that select the same of it', async () => {
    let reads = 0
    const counted = Object.defineProperty({ ...content }, 'content', {
      get: () => {
        reads += 1
        return 'a'
      },
      enumerable: true,
    }) as unknown as Row
    for (let n = 0; n < 5; n++) await page(`{ page${n}: contents { edges { node { id content } } } }`, [counted])
    expect(reads).toBe(1)
    await page('{ contents { edges { node { id text: content } } } }', [counted])
    expect(reads).toBe(2)
  })
})
