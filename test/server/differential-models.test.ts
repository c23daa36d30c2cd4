/** The fast path responds as Yoga does, and streams send the same events, over several models, claims and arguments; documents are generated. */
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { formatCursor } from '../../src/events/events.ts'
import { failures } from '../../src/events/topics.ts'
import { holds } from '../harness/eventually.ts'
import { type ModelServer, serveModels } from '../harness/model-server.ts'
import { type Asked, openStream, type Transport, transports, type Written, written } from '../harness/ways.ts'

const grants = [
  { sub: 'ann', tenant: 'red' },
  { sub: 'bea', tenant: 'blue' },
  { sub: 'carl' },
  { sub: 'root', scope: 'read write admin' },
]
const posts = [randomUUID(), randomUUID()]

let server: ModelServer
let start: string
const ids: string[] = []

beforeAll(async () => {
  server = await serveModels()
  start = formatCursor({ position: await tail(), index: 0 })
  for (const [i, claims] of [grants[0]!, grants[1]!, grants[0]!].entries()) {
    const client = await server.as(claims)
    const text = `number ${i} "é" 🙂`
    const query = `mutation ($text: String!, $post: String!) {
      saveComment(input: { body: $text, postId: $post, rating: ${i + 1} }, waitMs: 20000) { saveId status }
      saveMemo(input: { text: $text, topic: ${i % 2} }, waitMs: 20000) { saveId status }
      save(content: $text, waitMs: 20000) { saveId status }
    }`
    const { data } = await client.graphql(query, { text, post: posts[i % 2] })
    for (const { saveId, status } of Object.values(data) as { saveId: string; status: string }[]) {
      expect(status).toBe('SAVED')
      ids.push(saveId)
    }
  }
})
afterAll(() => server?.close())

async function tail() {
  const feed = await server.app.follower.feed(failures)
  const { position } = feed.cursor
  feed.close()
  return position
}

async function answers(claims: object, params: object): Promise<unknown[]> {
  const all: unknown[] = []
  for (const url of [server.plain, server.fast, server.fast, server.fast]) {
    const client = await server.as({ ...claims }, url)
    for (const accept of ['application/json', 'application/graphql-response+json']) {
      const response = await client.fetch('/graphql', {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept },
        body: JSON.stringify(params),
      })
      all.push({ accept, status: response.status, body: await response.json() })
    }
  }
  return all
}

async function same(claims: object, params: object): Promise<void> {
  const [json, graphql, ...rest] = await answers(claims, params)
  for (let i = 0; i < rest.length; i += 2) expect(rest.slice(i, i + 2)).toEqual([json, graphql])
}

const rowFields = {
  Comment: ['id', 'postId', 'author', 'body', 'rating', 'mood', 'createdAt', 'savedAt', '__typename'],
  Memo: ['id', 'tenantId', 'topic', 'text', 'viewer', 'letters', 'savedAt', '__typename'],
  Content: ['id', 'content', 'createdAt', '__typename'],
}
type Name = keyof typeof rowFields
const names = Object.keys(rowFields) as Name[]
const lists = { Comment: 'comments', Memo: 'memos', Content: 'contents' }
const selection = (name: Name) =>
  fc.subarray(rowFields[name], { minLength: 1, maxLength: 4 }).map((fields) => fields.join(' '))

const value = fc.oneof(
  fc.constantFrom<unknown>(...posts, 'ann', 'red', 'blue', 0, 1, null, '', 'x'.repeat(40), true, {}, []),
  fc.integer({ min: -2, max: 101 }),
  fc.string({ unit: 'binary', maxLength: 4 }),
)

/** A page of one model, with any values for its arguments. */
const page = fc.constantFrom(...names).chain((name) => {
  const args = { Comment: ['postId: String', 'author: String'], Memo: ['topic: Int', 'tenantId: String'], Content: [] }[
    name
  ]
  const given = ['first: Int', 'last: Int', 'after: String', ...args]
  return fc
    .tuple(selection(name), fc.subarray(given), fc.array(value, { minLength: 5, maxLength: 5 }))
    .map(([fields, used, values]) => {
      const declared = used.map((arg) => `$${arg}`).join(', ')
      const passed = used.map((arg) => arg.split(':')[0]).map((arg) => `${arg}: $${arg}`)
      return {
        query: `query ${declared ? `(${declared})` : ''} { ${lists[name]}${passed.length > 0 ? `(${passed.join(', ')})` : ''} { edges { node { ${fields} } } pageInfo { hasNextPage hasPreviousPage } } }`,
        variables: Object.fromEntries(used.map((arg, i) => [arg.split(':')[0], values[i]])),
      }
    })
})

/** Rows by id: as the model's own field, as a node and in a receipt. */
const byId = fc
  .tuple(fc.constantFrom(...names), fc.nat(8), fc.tuple(selection('Comment'), selection('Memo'), selection('Content')))
  .map(([name, n, [comment, memo, content]]) => {
    const rows = { Comment: comment, Memo: memo, Content: content }
    const id = ids[n] ?? randomUUID()
    const fragments = names.map((one) => `... on ${one} { ${rows[one].replaceAll('id', '')} __typename }`).join(' ')
    const one = name.toLowerCase()
    const receipts = names.map((of) => `... on ${of}Receipt { ${of.toLowerCase()} { ${rows[of]} } }`).join(' ')
    return {
      query: `query ($id: ID!) { node(id: $id) { id ${fragments} } ${one}(id: $id) { ${rows[name]} } receipt(id: $id) { saveId model status ${receipts} } }`,
      variables: { id },
    }
  })

test('The fast path responds to pages of every model, for every grant, as Yoga does', async () => {
  await fc.assert(fc.asyncProperty(fc.constantFrom(...grants), page, same), { numRuns: 120, endOnFailure: true })
}, 120_000)

test('The fast path responds to rows, nodes and receipts of every model, for every grant, as Yoga does', async () => {
  await fc.assert(fc.asyncProperty(fc.constantFrom(...grants), byId, same), { numRuns: 60, endOnFailure: true })
}, 120_000)

const lone: Asked[] = [
  {
    kind: 'query',
    field: 'comments',
    argument: { name: 'postId', type: 'String', value: posts[0] },
    type: 'CommentConnection',
    selection: ['edges { node { body rating mood } }', 'pageInfo { hasNextPage }'],
  },
  {
    kind: 'query',
    field: 'memos',
    argument: { name: 'topic', type: 'Int', value: 0 },
    type: 'MemoConnection',
    selection: ['edges { node { text tenantId } }', 'pageInfo { hasNextPage }'],
  },
]

test('A narrowed page is the same however it is written', async () => {
  for (const asked of lone) {
    await fc.assert(fc.asyncProperty(fc.constantFrom(grants[0]!, grants[3]!), written(asked), same), {
      numRuns: 30,
      endOnFailure: true,
    })
  }
}, 120_000)

const streams: [Asked, expected: (grant: object) => number][] = [
  [
    {
      kind: 'subscription',
      field: 'commentSaved',
      argument: { name: 'postId', type: 'String', value: posts[0] },
      type: 'CommentSaved',
      selection: ['cursor', 'comment { body author }'],
    },
    () => 2,
  ],
  [
    {
      kind: 'subscription',
      field: 'memoSaved',
      argument: { name: 'topic', type: 'Int', value: 0 },
      type: 'MemoSaved',
      selection: ['cursor', 'memo { text tenantId }'],
    },
    () => 2,
  ],
]

test('A narrowed subscription sends the same events, with the same ids, however it is written', async () => {
  for (const [asked, count] of streams) {
    const way = fc
      .tuple(written(asked), transports)
      .filter(([{ query }, { wire }]) => wire !== 'GET' || query.length < 8_000)
    let expected: unknown[] | undefined
    // Written in full, it resumes from the start by Last-Event-ID.
    const read = async (url: string, what: Written, transport: Transport) => {
      const authorization = `Bearer ${await server.token(grants[3]!)}`
      const stream = await openStream(url, what, transport, { authorization, lastEventId: start })
      try {
        return await holds(() => {
          expect(stream.results()).toHaveLength(count(grants[3]!))
          return { results: stream.results(), ids: stream.ids().slice(1) }
        })
      } finally {
        stream.close()
      }
    }
    await fc.assert(
      fc.asyncProperty(
        way.filter(([, { wire }]) => wire !== 'WebSocket'),
        async ([what, transport]) => {
          for (const url of [server.plain, server.fast]) {
            const { results, ids } = await read(url, what, transport)
            expected ??= results
            expect(results).toEqual(expected)
            // Behind the last event, a heartbeat may have come, which has an id, too.
            expect(ids.slice(0, results.length)).toEqual(results.map(({ data }) => data.cursor))
          }
        },
      ),
      { numRuns: 15, endOnFailure: true },
    )
  }
}, 120_000)
