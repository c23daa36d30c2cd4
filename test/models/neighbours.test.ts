/** What one model does to another: a table that is locked, also for reads, and an id that both have. */
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { type Connection, createConnection } from 'mariadb'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Spillway } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import type { Tree } from '../harness/tree.ts'
import { treeWithComments } from './comments.ts'
import { bootTree } from './every.ts'

let tree: Tree
let system: Spillway
let other: Connection
beforeAll(async () => {
  tree = await treeWithComments()
  system = await bootTree(tree, 'redis + mariadb', { env: { AUTH_DEV_CLAIMS: '{"sub":"dev"}' } })
  other = await createConnection(system.env.DATABASE_URL!.replace('mysql:', 'mariadb:'))
}, 120_000)
afterAll(async () => {
  await other?.end()
  await system?.stop()
  await tree?.[Symbol.asyncDispose]()
})

const savePost = (id: string, waitMs: number) =>
  system.client.graphql(
    'mutation ($id: ID!, $waitMs: Int) { savePost(id: $id, waitMs: $waitMs, input: { title: "a title" }) { status } }',
    { id, waitMs },
  )

test('a locked table of one model delays no receipt and no read of another one', async () => {
  expect((await savePost(randomUUID(), 20_000)).data.savePost.status).toBe('SAVED')
  await other.query('LOCK TABLES Content WRITE')
  // More reads of the locked table than there are connections.
  const blocked = Array.from({ length: 30 }, (_, i) =>
    system.client.graphql(`{ contents(first: ${i + 1}) { edges { node { id } } } }`),
  )
  const pending = randomUUID()
  await system.client.save('of the locked table', { id: pending })

  const took = async (ask: () => Promise<Json>) => {
    const started = performance.now()
    const answer = await ask()
    expect(answer.errors).toBeUndefined()
    return { answer, ms: performance.now() - started }
  }
  const times: number[] = []
  for (let i = 0; i < 8; i++) {
    const id = randomUUID()
    const saved = await took(() => savePost(id, 20_000))
    expect(saved.answer.data.savePost.status).toBe('SAVED')
    const listed = await took(() => system.client.graphql(`{ posts(first: ${i + 1}) { edges { node { id } } } }`))
    expect(listed.answer.data.posts.edges[0].node.id).toBe(id)
    const found = await took(() => system.client.graphql(`{ post(id: "${id}") { id } }`))
    expect(found.answer.data.post.id).toBe(id)
    times.push(saved.ms, listed.ms, found.ms)
  }
  // A read of the locked table fails after seven seconds.
  expect(times.sort((a, b) => a - b).at(-3), times.map(Math.round).join(' ')).toBeLessThan(3_000)

  const answers = await Promise.all(blocked)
  for (const { errors } of answers) expect(errors?.[0].extensions.code).toBe('STORE_UNAVAILABLE')
  await other.query('UNLOCK TABLES')
  await holds(async () => {
    const { data } = await system.client.graphql(`{ receipt(id: "${pending}") { status } }`)
    expect(data.receipt.status).toBe('SAVED')
  })
}, 120_000)

/** As after 50,000 other saves. */
async function forgetSavedIds(): Promise<void> {
  const url = new URL(system.env.QUEUE_URL!)
  const prefix = url.searchParams.get('prefix')
  url.search = ''
  const redis = new Redis(url.href)
  await redis.del(...(await redis.keys(`{${prefix}:*}:saved*`)))
  redis.disconnect()
}

test('a retry is a duplicate although another model has the id since the queue forgot it (P3)', async () => {
  const id = randomUUID()
  expect((await savePost(id, 20_000)).data.savePost.status).toBe('SAVED')
  await forgetSavedIds()
  const save = 'mutation ($id: ID!) { save(id: $id, content: "of another model", waitMs: 20000) { status } }'
  expect((await system.client.graphql(save, { id })).data.save.status).toBe('SAVED')
  const retry = (title: string) =>
    system.client.graphql(
      'mutation ($id: ID!, $title: String!) { savePost(id: $id, input: { title: $title }) { status duplicate post { title } } }',
      { id, title },
    )
  expect((await retry('a title')).data.savePost).toEqual({
    status: 'SAVED',
    duplicate: true,
    post: { title: 'a title' },
  })
  expect((await retry('another title')).errors[0].extensions.code).toBe('ID_CONFLICT')
  expect((await system.client.graphql(save, { id })).data.save.status).toBe('SAVED')
})
