/** A connection to the master that Sentinels name. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { RedisConnection } from '../../src/redis/connection.ts'
import { freePort } from '../harness/daemon.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { startRedis, type TestRedis } from '../harness/redis.ts'
import { spawnSentinel, type TestSentinel } from '../harness/sentinel.ts'

const password = 'sentinel+secret&1'
const written = encodeURIComponent(password)

let redis: TestRedis
let open: TestSentinel
let locked: TestSentinel
let connection: RedisConnection | undefined

beforeAll(async () => {
  redis = await startRedis()
  await redis.cli('ACL', 'SETUSER', 'known', 'on', '>secret', '~*', '&*', '+@all')
  ;[open, locked] = await Promise.all([spawnSentinel(redis.port), spawnSentinel(redis.port, { password })])
})
afterEach(() => connection?.close())
afterAll(async () => {
  await Promise.all([redis, open, locked].map((server) => server?.cleanup()))
})

const at = (...sentinels: { port: number }[]) => sentinels.map(({ port }) => `127.0.0.1:${port}`).join()

function connect(url: string) {
  const lines: object[] = []
  const add = (fields: object) => void lines.push(fields)
  const log = { info: add, warn: add, error: add }
  connection = new RedisConnection(parseRedisUrl(url), { role: 'queue', tag: '{spillway:0}', log })
  return { connection, lines }
}

test.each([
  ['one Sentinel', () => `redis+sentinel://${at(open)}/mymaster`],
  ['a user, and a database', () => `redis+sentinel://known:secret@${at(open)}/mymaster/3`],
  ['the password of the Sentinel', () => `redis+sentinel://${at(locked)}/mymaster?sentinelPassword=${written}`],
])('RedisConnection finds the master with %s', async (_, url) => {
  const { connection, lines } = connect(url())
  await eventually(() => connection.ready)
  await connection.ask((client) => client.set('here', 'x'))
  expect(String(await connection.ask((client) => client.info('server')))).toContain(`tcp_port:${redis.port}`)
  expect(lines).toEqual([])
})

test('RedisConnection finds the master where the first Sentinels are dead, or refuse', async () => {
  const { connection } = connect(`redis+sentinel://127.0.0.1:${await freePort()},${at(locked, open)}/mymaster`)
  await eventually(() => connection.ready)
})

test.each([
  ['do not know the name', 'NO_SUCH_MASTER', () => `redis+sentinel://${at(open)}/another`],
  ['refuse a client without a password', 'SENTINEL_AUTH', () => `redis+sentinel://${at(locked)}/mymaster`],
  ['refuse the password', 'SENTINEL_AUTH', () => `redis+sentinel://${at(locked)}/mymaster?sentinelPassword=wrong`],
  ['are no Sentinels', 'NOT_SENTINEL', () => `redis+sentinel://${at(redis)}/mymaster`],
  ['do not know the name, and one is dead', 'NO_SUCH_MASTER', () => `redis+sentinel://127.0.0.1:1,${at(open)}/another`],
  ['are dead', 'NO_SENTINEL', () => 'redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster'],
])('RedisConnection says that the Sentinels %s, and goes on trying', async (_, code, url) => {
  const { connection, lines } = connect(url().replace('//', '//:swordfish@'))
  await holds(async () => expect(await connection.probe(async () => undefined)).toBe(code))
  await expect(connection.ask((client) => client.get('x'))).rejects.toMatchObject({ code: 'QUEUE_UNAVAILABLE' })
  expect(connection.client.status).not.toBe('end')
  expect(lines).toEqual([expect.objectContaining({ setting: 'QUEUE_URL', code })])
  expect(JSON.stringify(lines)).not.toMatch(/swordfish|sentinel\+secret|wrong|127\.0\.0\.1/)
})
