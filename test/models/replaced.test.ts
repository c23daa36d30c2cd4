/**
 * The whole main job with another model in place of Content, on both set-ups: no file but src/models/ and the Prisma schema names a model.
 * The model has no relation to Content: other columns, names and paths.
 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Spillway, setUps } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { filesUnder, withoutComments } from '../harness/imports.ts'
import { type Receiver, startReceiver } from '../harness/otlp.ts'
import { statement } from '../harness/rows.ts'
import { copyTree, type Tree } from '../harness/tree.ts'
import { bootTree } from './every.ts'

const schema = `
model Vote {
  id        String   @id @db.Char(36)
  poll      Int
  choice    Choice
  weight    Decimal  @db.Decimal(10, 2) @default(1)
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)

  @@index([createdAt, id])
  @@index([poll, createdAt, id])
  @@map("votes")
}

enum Choice {
  YES
  NO
}
`
const source = `import { defineModel } from './prisma.ts'

export const Vote = defineModel('Vote', { columns: { weight: { min: 0 } }, by: [['poll']] })
`

let tree: Tree
beforeAll(async () => {
  tree = await copyTree()
  const whole = await tree.read('prisma/schema.prisma')
  await tree.write('prisma/schema.prisma', whole.slice(0, whole.search(/\n(\/\/\/.*\n)*model Content /)) + schema)
  await tree.remove('src/models/content.ts')
  await tree.write('src/models/vote.ts', source)
  const index = await tree.read('src/models/index.ts')
  await tree.write('src/models/index.ts', index.replaceAll('Content', 'Vote').replaceAll('content.ts', 'vote.ts'))
  for (const kind of ['mysql', 'sqlite']) await tree.remove(`prisma/${kind}/migrations`)
  for (const kind of ['mysql', 'sqlite']) await tree.write(`prisma/${kind}/migrations/migration_lock.toml`, '')
  await tree.node(['src/commands/migration.ts', 'init'])
}, 180_000)
afterAll(() => tree?.[Symbol.asyncDispose]())

test('no file of src/, worker/ and web/ names a model, but those of src/models/', () => {
  const files = ['src', 'worker', 'web'].flatMap((folder) => filesUnder(folder, /(?<!\.d)\.tsx?$/))
  const others = files.filter(({ path }) => !path.startsWith('src/models/') && !path.startsWith('web/dist/'))
  expect(others.length).toBeGreaterThan(100)
  const named = others.filter(({ text }) => /(?<![\w-])(Content|contents)(?![\w-])/.test(withoutComments(text)))
  expect(named.map(({ path }) => path)).toEqual([])
})

const fields = 'id poll choice weight'
const save = `mutation ($input: VoteInput!, $id: ID) { saveVote(input: $input, id: $id, waitMs: 30000) { saveId model status duplicate conflicts failure { code } vote { ${fields} } } }`
const ask = `query ($id: ID!) { receipt(id: $id) { status conflicts failure { code } ... on VoteReceipt { vote { ${fields} } } } }`

describe.each(setUps)('Spillway with another model in place of Content (%s)', (setUp) => {
  let system: Spillway
  let receiver: Receiver
  beforeAll(async () => {
    receiver = await startReceiver()
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url }
    system = await bootTree(tree, setUp, { env, intervals: { delayMs: 100 } })
  }, 120_000)
  afterAll(async () => {
    await system?.stop()
    await receiver?.close()
  })

  test('saves, sends the event, and returns the row in lists, by its id and in receipts (P2, P4, P5)', async () => {
    const all = await system.client.sse(`subscription { voteSaved { cursor vote { ${fields} } } }`)
    const of2 = await system.client.sse(`subscription { voteSaved(poll: 2) { vote { ${fields} } } }`)
    const votes = Array.from({ length: 6 }, (_, i) => ({
      id: randomUUID(),
      poll: 1 + (i % 2),
      choice: i < 3 ? 'YES' : 'NO',
    }))
    const rows = votes.map((vote) => ({ ...vote, weight: '1' }))
    const { data } = await system.client.graphql(save, { input: { ...votes[0], id: undefined }, id: votes[0]!.id })
    const receipt = {
      saveId: votes[0]!.id,
      model: 'Vote',
      status: 'SAVED',
      duplicate: false,
      conflicts: 0,
      failure: null,
    }
    expect(data.saveVote).toEqual({ ...receipt, vote: rows[0] })
    const many = await system.client.graphql(
      'mutation ($inputs: [VoteInput!]!) { saveVotes(inputs: $inputs) { saveId status } }',
      { inputs: votes.slice(1, 5) },
    )
    expect(many.data.saveVotes).toEqual(votes.slice(1, 5).map(({ id }) => ({ saveId: id, status: 'QUEUED' })))
    const response = await system.client.fetch('/votes', { method: 'POST', body: JSON.stringify(votes[5]) })
    expect([response.status, await response.json()]).toEqual([202, { id: votes[5]!.id, status: 'QUEUED' }])
    const sorted = (some: readonly Json[]) => some.toSorted((a, b) => (a.id < b.id ? -1 : 1))
    const sent = (stream: typeof all) => sorted(stream.results.map(({ data }) => data.voteSaved.vote))
    await holds(() => {
      expect(sent(all)).toEqual(sorted(rows))
      expect(sent(of2)).toEqual(sorted(rows.filter(({ poll }) => poll === 2)))
    })
    all.close()
    of2.close()
    const list = `query ($poll: Int) { votes(poll: $poll) { edges { node { ${fields} } } } }`
    for (const poll of [undefined, 1, 2]) {
      const expected = sorted(rows.filter((row) => poll === undefined || row.poll === poll))
      const page = await system.client.graphql(list, { poll })
      expect(sorted(page.data.votes.edges.map(({ node }: Json) => node))).toEqual(expected)
      const { results } = await (await system.client.fetch(`/votes${poll ? `?poll=${poll}` : ''}`)).json()
      expect(sorted(results)).toMatchObject(expected)
    }
    const one = await system.client.graphql(
      `query ($id: ID!) { vote(id: $id) { ${fields} } node(id: $id) { __typename id } }`,
      { id: votes[5]!.id },
    )
    expect(one.data).toEqual({ vote: rows[5], node: { __typename: 'Vote', id: votes[5]!.id } })
    expect(await system.client.receipt(votes[5]!.id)).toMatchObject({ model: 'Vote', status: 'SAVED', vote: rows[5] })
  })

  test('answers a retry as a duplicate, and other values with ID_CONFLICT (P3)', async () => {
    const id = randomUUID()
    const input = { poll: 3, choice: 'YES', weight: '2.50' }
    const first = await system.client.graphql(save, { id, input })
    const again = await system.client.graphql(save, { id, input: { ...input, weight: 2.5 } })
    expect(again.data.saveVote).toEqual({ ...first.data.saveVote, duplicate: true })
    const other = await system.client.graphql(save, { id, input: { ...input, choice: 'NO' } })
    expect(other.errors[0].extensions.code).toBe('ID_CONFLICT')
    const response = await system.client.fetch('/votes', {
      method: 'POST',
      body: JSON.stringify({ id, ...input, choice: 'NO' }),
    })
    expect(response.status).toBe(409)
  })

  test('makes a dead letter of a save whose id the table has with other values, and retries it (P2, P3)', async () => {
    const id = randomUUID()
    const at = setUp === 'embedded' ? '2025-01-01T00:00:00.000+00:00' : '2025-01-01 00:00:00.000'
    await statement(
      system.env.DATABASE_URL!,
      `INSERT INTO votes (id, poll, choice, weight, createdAt, savedAt) VALUES ('${id}', 4, 'NO', '1', '${at}', '${at}')`,
    )
    const input = { poll: 4, choice: 'YES' }
    const response = await system.client.fetch('/votes', { method: 'POST', body: JSON.stringify({ id, ...input }) })
    expect(response.status).toBe(202)
    const letters = async () =>
      (
        await system.client.graphql('{ deadLetters { edges { node { saveId model input failure { code } } } } }')
      ).data.deadLetters.edges.map(({ node }: Json) => node)
    await holds(async () =>
      expect(await letters()).toEqual([
        { saveId: id, model: 'Vote', input: { ...input, weight: '1' }, failure: { code: 'ID_CONFLICT' } },
      ]),
    )
    const of = async () => (await system.client.graphql(ask, { id })).data.receipt
    expect(await of()).toEqual({
      status: 'SAVED',
      conflicts: 1,
      failure: null,
      vote: { id, poll: 4, choice: 'NO', weight: '1' },
    })
    await statement(system.env.DATABASE_URL!, `DELETE FROM votes WHERE id = '${id}'`)
    const retried = await system.client.graphql('mutation ($ids: [ID!]) { retryDeadLetters(ids: $ids) { count } }', {
      ids: [id],
    })
    expect(retried.data.retryDeadLetters).toEqual({ count: 1 })
    await holds(async () => expect(await of()).toMatchObject({ status: 'SAVED', vote: { choice: 'YES' } }))
    expect(await letters()).toEqual([])
  })

  test('has traces of the model, with its table', async () => {
    const traceId = randomUUID().replaceAll('-', '')
    const headers = { traceparent: `00-${traceId}-${traceId.slice(0, 16)}-01` }
    const response = await system.client.fetch('/votes', { method: 'POST', headers, body: '{"poll":5,"choice":"NO"}' })
    expect(response.status).toBe(202)
    await holds(() =>
      expect(
        receiver
          .of(traceId)
          .map(({ name }) => name)
          .sort(),
      ).toEqual(['INSERT votes', 'POST /votes', 'process spillway', 'publish saved', 'send spillway']),
    )
    const insert = receiver.of(traceId).find(({ name }) => name === 'INSERT votes')
    expect(insert?.attributes).toMatchObject({ 'db.collection.name': 'votes' })
  })

  test('has metrics of the model, and no trace of Content', async () => {
    const metrics = await (await system.client.fetch('/metrics')).text()
    expect(metrics).toMatch(/^spillway_saves_accepted_total\{model="Vote"\} [1-9]/m)
    expect(metrics).not.toContain('Content')
    const { data } = await system.client.graphql('{ __schema { types { name } } }')
    expect(data.__schema.types.map(({ name }: Json) => name).filter((name: string) => /content/i.test(name))).toEqual(
      [],
    )
    for (const path of ['/save', '/?first=1'])
      expect((await system.client.fetch(path, { method: 'POST', body: '{}' })).status).toBeLessThan(500)
  })
})
