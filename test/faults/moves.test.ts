/**
 * A move from one Redis to six shards in a cluster of six, by the steps of docs/operations.md ("One Redis to a cluster"), under load. What the
 * steps name is done as they say: settings come from the page itself.
 */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startCluster, type TestCluster } from '../harness/cluster.ts'
import { holds } from '../harness/eventually.ts'
import { root } from '../harness/imports.ts'
import { inherited, type SpillwayProcess } from '../harness/process.ts'
import { putRows, removeRow } from '../harness/rows.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { followers, settingsOf, startReady, stop } from './recipes.ts'
import { record } from './table.ts'
import { patience } from './under-load.ts'

let cluster: TestCluster
let stack: Stack

beforeAll(async () => {
  ;[cluster, stack] = await Promise.all([
    startCluster({ masters: 3, replicas: 1, args: ['--repl-diskless-sync-delay', '0'] }),
    Stack.start(),
  ])
}, 180_000)
afterAll(async () => {
  await stack?.stop()
  await cluster?.cleanup()
})

const run = promisify(execFile)

/** `npm run dead-letters` with these settings. */
async function deadLetters(env: Record<string, string>, ...args: string[]): Promise<string> {
  const file = join(root, 'src/commands/dead-letters.ts')
  const { stdout } = await run(process.execPath, ['--disable-warning=ExperimentalWarning', file, ...args], {
    cwd: tmpdir(),
    env: { ...inherited(), ...env },
  })
  return stdout
}

async function gauge(worker: SpillwayProcess, name: string): Promise<number> {
  const text = await (await fetch(`${worker.url}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}

/** Saves to the old queue while no worker runs. */
async function savePending(content: string): Promise<string> {
  const { id, status } = await stack.once(content)
  expect(status).toBe(202)
  return id
}

test('B35: one Redis is left for six shards of a cluster under load, as docs/operations.md says', async () => {
  const addresses = { 'redis:': stack.redis.url, 'redis+cluster:': cluster.url }
  const old = stack.env
  const moved = { ...old, ...settingsOf('new\\.env', addresses) }
  const drain = { ...moved, ...settingsOf('drain\\.env', addresses), WORKER_PORT: '0' }
  const clients = await followers(stack)
  const before = new Set<string>()
  try {
    stack.write(4)
    await stack.more(60)

    // 2. All workers end.
    await stop(stack, stack.workers)
    const [pending, again] = [await savePending('pending in the old queue'), await savePending('saved again')]
    const reused = await savePending('the first content of its id')
    const inTheWay = randomUUID()
    await putRows(stack.database, [inTheWay], 'in the way')
    expect((await stack.client.save('too late', { id: inTheWay })).status).toBe(202)
    await stack.more(30)
    for (const id of stack.acknowledged) before.add(id)

    // 3. New API processes start, then the old ones end.
    const apis = [...stack.apis]
    stack.env = moved
    await Promise.all([startReady(stack), startReady(stack)])
    await stop(stack, apis)
    stack.eventsUrls = [stack.redis.url, cluster.url]
    const receipt = await stack.client.graphql('query ($id: ID!) { receipt(id: $id) { status } }', { id: pending })
    expect(receipt.body).toEqual({ data: { receipt: null } })
    expect(await stack.once('saved again', { id: again })).toMatchObject({ status: 202 })
    expect((await stack.client.save('other content', { id: reused })).status).toBe(202)
    await stack.more(30)
    expect((await stack.rows()).has(pending)).toBe(false)

    // 4. A worker drains the old queue, and its dead letters are decided.
    stack.env = drain
    const draining = await stack.startWorker()
    await holds(async () => expect(await gauge(draining, 'spillway_queue_depth')).toBe(0), patience)
    await holds(async () => expect(await gauge(draining, 'spillway_dead_letters')).toBe(1), patience)
    expect(await deadLetters(drain, 'list')).toContain(inTheWay)
    await deadLetters(drain, 'discard', inTheWay)
    await removeRow(stack.database, inTheWay)
    await holds(async () => expect(await gauge(draining, 'spillway_dead_letters')).toBe(0), patience)
    expect(await stack.redis.cli('XLEN', '{spillway:0}:queue')).toBe(0)
    const rows = await stack.rows()
    expect([...before].filter((id) => !rows.has(id))).toEqual([])

    // 5. It ends. 6. The workers of the new queue start.
    await stop(stack, [draining])
    stack.env = moved
    await Promise.all([stack.startWorker(), stack.startWorker()])
    await stack.more(60)
    await holds(async () => {
      expect(await stack.client.deadLetters()).toMatchObject([{ id: reused, failure: { code: 'ID_CONFLICT' } }])
    }, patience)
    expect(await stack.client.changeDeadLetters('discard', { ids: [reused] })).toMatchObject({ count: 1 })
    for (const id of [pending, again, reused]) expect(await stack.client.receipt(id)).toMatchObject({ status: 'SAVED' })
    await stack.more(30)

    const fault = 'one Redis is left for six shards of a cluster of six under load'
    const verdict = await stack.verdict(fault, patience)
    record('B35', 'redis + mariadb', verdict)
    expectSound(verdict)
    await clients.expectAll([...stack.acknowledged], 1)
    const spread = await Promise.all([0, 1, 2, 3, 4, 5].map(async (shard) => await acknowledgedIn(shard)))
    expect(spread, 'shards that have saved ids').toEqual([true, true, true, true, true, true])
  } finally {
    await stack.stopWriting()
    await clients.stop()
  }
}, 180_000)

async function acknowledgedIn(shard: number): Promise<boolean> {
  const key = `{spillway:${shard}}:saved`
  return (await (await cluster.ownerOf(key)).cli('EXISTS', key)) === 1
}
