/** Faults of a connection's set-up (FA12) and of what comes over the wake-up channel (FB4) while saves go on, in a database other than 0. */
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually, holds } from '../harness/eventually.ts'
import { SseClient } from '../harness/sse.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { record } from './table.ts'

let stack: Stack
beforeAll(async () => {
  stack = await Stack.start({ queueUrl: async (url) => url.replace(/0$/, '3') })
})
afterAll(() => stack?.stop())

test('FA12: the right to SELECT is taken away and given back while saves go on', { timeout: 120_000 }, async () => {
  stack.write(4)
  for (let round = 0; round < 3; round++) {
    await stack.more(200)
    await stack.redis.cli('ACL', 'SETUSER', 'default', '-select')
    await stack.redis.cli('CLIENT', 'KILL', 'TYPE', 'normal')
    await eventually(async () => (await stack.once('refused')).code === 'QUEUE_UNAVAILABLE')
    expect(await stack.redis.cli('DBSIZE')).toBe(0)
    await stack.redis.cli('ACL', 'SETUSER', 'default', '+select')
  }
  await stack.more(200)
  const verdict = await stack.verdict('SELECT refused after a reconnect, and allowed again', { events: false })
  record('FA12', 'redis + mariadb', verdict)
  expectSound(verdict)
  expect(await stack.redis.cli('DBSIZE'), 'keys in database 0').toBe(0)
})

test('FB4: garbage and events of a later release are published while saves go on', { timeout: 120_000 }, async () => {
  const stream = await SseClient.open(stack.apis[0]!.url!, 'subscription { saved { content { id } } }')
  const before = new Set(stack.acknowledged)
  const publisher = new Redis({ host: '127.0.0.1', port: stack.redis.port })
  stack.write(4)
  const goal = stack.acknowledged.size + 600
  while (stack.acknowledged.size < goal) {
    for (const text of [
      '{"epoch":"x","id":"1-1","previous":"","events":[{"type":"somethingNew"}]}',
      '{"epoch":"x","id":"1-1","previous":"","events":[{"type":"saved"}]}',
      'no JSON',
      '[null]',
    ]) {
      await publisher.publish('{spillway:events}:wake', text)
    }
  }
  publisher.disconnect()
  const verdict = await stack.verdict('garbage on the wake-up channel', { events: false })
  record('FB4', 'redis + mariadb', verdict)
  expectSound(verdict)
  const heard = () => new Set(stream.results.map(({ data }) => data.saved.content.id))
  await holds(() => expect([...stack.acknowledged].filter((id) => !before.has(id) && !heard().has(id))).toEqual([]))
  for (const process of [...stack.apis, ...stack.workers]) {
    expect(await Promise.race([process.exited, Promise.resolve('alive')])).toBe('alive')
  }
  stream.close()
})
