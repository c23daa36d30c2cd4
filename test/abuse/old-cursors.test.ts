/** One client subscribes to many rooms without messages, each from far behind: the API goes through the log for all of them at once. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { formatCursor, parseCursor } from '../../src/events/events.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { holds } from '../harness/eventually.ts'
import { probe } from '../harness/probe.ts'
import { quiet } from '../harness/quiet.ts'
import { roomEvents, roomQuery, treeWithRooms } from '../harness/rooms.ts'
import { cursorNow } from '../harness/subscriber.ts'
import { Target } from '../harness/target.ts'
import type { Tree } from '../harness/tree.ts'
import { WsClient } from '../harness/ws.ts'

const sockets = 8
const rooms = 100

let tree: Tree
let target: Target
beforeAll(async () => {
  tree = await treeWithRooms()
  target = await Target.start({}, 'redis + mariadb', { tree: tree.path, intervals: { heartbeatMs: 100 } })
}, 180_000)
afterAll(async () => {
  await target?.stop()
  await tree?.[Symbol.asyncDispose]()
})

test('800 subscriptions that skip up to 100,000 events each, from 800 cursors, keep nobody waiting, and take little memory', async () => {
  const { models, event } = await roomEvents(tree)
  const log = new RedisEventLog(parseRedisUrl(target.system.env.QUEUE_URL!), {
    retentionMs: 3_600_000,
    retentionBytes: 268_435_456,
    models,
    log: quiet(),
  })
  await holds(() => log.tail())
  const { position: start } = parseCursor(await cursorNow(target.url))!
  const entry = Array.from({ length: 20 }, (_, n) => event(`room ${n}`, n, 20))
  for (let n = 0; n < 500; n += 1) await log.append(Array.from({ length: 10 }, () => entry))
  const cursors: string[] = []
  for (let position = start; cursors.length < sockets * rooms * 5; ) {
    for (const entry of await log.read(position, 16)) {
      position = entry.position
      cursors.push(formatCursor({ position, index: 0 }))
    }
  }
  await log.close()
  // The ring is full, and the events were decoded.
  await target.work()
  target.mark()
  const since = performance.now()
  const beside = probe(target.url)
  const clients = await Promise.all(Array.from({ length: sockets }, () => WsClient.connect(target.url)))
  const waiting = clients.map((client, i) => {
    const left = new Set<string>()
    client.onMessage = ({ type, payload }) => {
      // The first heartbeat of a subscription comes when it waits at the end of the log.
      if (type === 'ping') for (const id of Object.keys(payload.cursors)) left.delete(id)
      else expect(type).toBe('pong')
    }
    for (let n = 0; n < rooms; n += 1) {
      left.add(`${n}`)
      client.subscribe(`${n}`, roomQuery(`nobody ${n % 20}`), { after: cursors[(n * sockets + i) * 5] })
    }
    return left
  })
  const left = () => waiting.reduce((sum, { size }) => sum + size, 0)
  await holds(() => expect(left()).toBe(0), { timeoutMs: 60_000, progress: left })
  const tookMs = performance.now() - since
  const { p95, failed } = await beside.stop()
  console.log(`${tookMs.toFixed(0)} ms; others waited ${p95.toFixed(0)} ms (p95); +${target.grownMb.toFixed(0)} MB`)
  expect(failed).toEqual([])
  expect(p95).toBeLessThan(1_000)
  for (const client of clients) client.close()
  await target.expectSound(300)
}, 120_000)
