/**
 * examples/from-bullmq, as it stands: an API and a worker of BullMQ and Prisma, then the same API before Spillway. What BullMQ had not done
 * when it was stopped is moved, and every id that either API accepted is one row.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { Queue } from 'bullmq'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { boot, type Spillway } from '../harness/boot.ts'
import { type Child, launch } from '../harness/child.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { root } from '../harness/imports.ts'
import { query } from '../harness/mariadb.ts'
import { inherited } from '../harness/process.ts'

let system: Spillway
const children: Child[] = []
const redis = new URL(inject('redisUrl'))
beforeAll(async () => {
  // It makes the table.
  system = await boot('redis + mariadb', { workers: 1 })
}, 120_000)
afterAll(async () => {
  for (const child of children) await stop(child)
  const queue = new Queue('contents', { connection: { host: redis.hostname, port: Number(redis.port) } })
  await queue.obliterate({ force: true })
  await queue.close()
  await system?.stop()
})

function run(file: string): Child {
  const env = {
    ...inherited(),
    PORT: '0',
    REDIS_URL: redis.href,
    DATABASE_URL: system.env.DATABASE_URL!,
    SPILLWAY_URL: system.url,
  }
  const args = ['--disable-warning=ExperimentalWarning', join(root, 'examples/from-bullmq', file)]
  const child = launch(process.execPath, args, { env })
  children.push(child)
  return child
}

async function stop(child: Child): Promise<void> {
  child.kill('SIGTERM')
  await child.exited
}

const addressOf = (api: Child) => eventually(() => /http:\/\/\S+/.exec(api.logs())?.[0])

/** The ids that the API accepted. */
async function post(url: string, contents: readonly string[]): Promise<string[]> {
  return await Promise.all(
    contents.map(async (content) => {
      const response = await fetch(`${url}/contents`, { method: 'POST', body: JSON.stringify({ content }) })
      expect(response.status).toBe(202)
      return (await response.json()).id
    }),
  )
}

const some = (word: string) => Array.from({ length: 30 }, (_, i) => `${word} ${i} 🙂 ${randomUUID()}`)

test('examples/from-bullmq: the API before and after accepts the same, and each accepted id is one row', async () => {
  const rows = () => query(system.env.DATABASE_URL!, 'SELECT id, content FROM Content')
  const worker = run('before/worker.js')
  const before = run('before/api.js')
  await eventually(() => worker.logs().includes('ready'))
  const first = some('before')
  const ids = await post(await addressOf(before), first)
  await holds(async () => expect(await rows()).toHaveLength(30))
  await stop(worker)
  const second = some('not done')
  ids.push(...(await post(await addressOf(before), second)))
  await stop(before)
  // A worker that was killed after its INSERT leaves a job whose row is there.
  const [id, content] = [ids[30]!, second[0]!]
  const insert = `INSERT INTO Content (id, content, createdAt, savedAt) VALUES ('${id}', '${content}', NOW(3), NOW(3))`
  await query(system.env.DATABASE_URL!, insert)

  const after = run('after/api.js')
  const third = some('after')
  ids.push(...(await post(await addressOf(after), third)))
  for (const moved of [30, 0]) {
    const move = run('move.js')
    expect([await move.exited, move.logs()]).toEqual([0, expect.stringContaining(`${moved} jobs moved\n`)])
  }
  const all = [...first, ...second, ...third]
  await holds(async () => {
    const found = new Map((await rows()).map((row) => [row.id, row.content]))
    expect(found).toEqual(new Map(ids.map((one, i) => [one, all[i]])))
  })
  // A worker acknowledges an entry after its row is written.
  await holds(async () => {
    const { data } = await system.client.graphql('{ queue { depth deadLetters } }')
    expect(data.queue).toEqual({ depth: 0, deadLetters: 0 })
  })
  // What the API refuses, it says with the status and the message of Spillway.
  const refused = await fetch(`${await addressOf(after)}/contents`, { method: 'POST', body: '{"content":"\\ud800"}' })
  expect([refused.status, (await refused.json()).errors[0].extensions.code]).toEqual([400, 'BAD_USER_INPUT'])
})
