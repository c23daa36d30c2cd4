/** What the fault tests rest on: that a fault really happens, and that nothing is left behind. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { eventually, holds } from './eventually.ts'
import { freshDatabase, freshRedisUrl } from './fresh.ts'
import { startProxy, type TestProxy } from './proxy.ts'
import { startRedis, type TestRedis } from './redis.ts'

let redis: TestRedis
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis?.cleanup())

describe('eventually', () => {
  test('returns the first truthy value, and takes a throw for "not yet"', async () => {
    let calls = 0
    const value = await eventually(() => {
      calls++
      if (calls === 1) throw new Error('not yet')
      return calls === 3 ? 'there' : undefined
    })
    expect([value, calls]).toEqual(['there', 3])
  })

  test.each([
    ['nothing returned', () => undefined, 'it returned undefined'],
    ['an error', () => Promise.reject(new Error('the reason')), 'the reason'],
    ['no answer', () => new Promise(() => {}), 'it never answered'],
  ])('fails on %s, and says so', async (_, fn, reason) => {
    await expect(eventually(fn, { timeoutMs: 60 })).rejects.toThrow(
      `the condition did not hold within 60 ms: ${reason}`,
    )
  })

  test('eventually goes on beyond its time while there is progress', async () => {
    let calls = 0
    const progress = () => Math.min(calls, 20)
    await eventually(() => ++calls === 15, { timeoutMs: 50, progress })
    await expect(eventually(() => ++calls === 0, { timeoutMs: 50, progress })).rejects.toThrow('did not hold')
  })

  test('holds takes nothing returned for success, and an assertion that fails for "not yet"', async () => {
    let calls = 0
    await holds(() => expect(++calls).toBe(2))
    await expect(holds(() => expect(1).toBe(2), { timeoutMs: 60 })).rejects.toThrow('expected 1 to be 2')
  })
})

describe('startRedis', () => {
  test('keeps what it acknowledged through SIGKILL, on the same port', async () => {
    const { pid, port } = redis
    expect(await redis.cli('CONFIG', 'GET', 'appendfsync')).toEqual(['appendfsync', 'always'])
    await redis.cli('SET', 'kept', 'yes')
    expect(await redis.stop('SIGKILL')).toBe('SIGKILL')
    await expect(redis.cli('GET', 'kept')).rejects.toThrow()
    await redis.restart()
    expect(redis.port).toBe(port)
    expect(redis.pid).not.toBe(pid)
    expect(await redis.cli('GET', 'kept')).toBe('yes')
  })

  test('answers nothing while it is paused', async () => {
    redis.pause()
    let answered = false
    const ping = redis.cli('PING').finally(() => {
      answered = true
    })
    await expect(eventually(() => answered, { timeoutMs: 200 })).rejects.toThrow()
    redis.resume()
    expect(await ping).toBe('PONG')
  })

  test('rejects with the reason of a failed start', async () => {
    await expect(startRedis({ args: ['--no-such-setting', '1'] })).rejects.toThrow(/did not start.*no-such-setting/s)
  })

  test('ends with the process that started it, and removes its directory', async () => {
    const script = `
      const { startRedis } = await import(${JSON.stringify(new URL('redis.ts', import.meta.url).href)})
      const { pid, dir } = await startRedis()
      console.log(JSON.stringify({ pid, dir }))
      setInterval(() => {}, 1000)`
    const owner = spawn(process.execPath, ['--input-type=module', '-e', script], {
      cwd: fileURLToPath(new URL('.', import.meta.url)),
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [line] = (await once(owner.stdout.setEncoding('utf8'), 'data')) as [string]
    const { pid, dir } = JSON.parse(line) as { pid: number; dir: string }
    expect(process.kill(pid, 0)).toBe(true)
    owner.kill('SIGKILL')
    await holds(() => expect(() => process.kill(pid, 0)).toThrow('ESRCH'))
    await holds(() => expect(existsSync(dir)).toBe(false))
  })
})

describe('the proxy', () => {
  let proxy: TestProxy
  let client: Redis
  beforeAll(async () => {
    proxy = await startProxy(redis.url)
    client = new Redis(proxy.url(redis.url), { maxRetriesPerRequest: 0, retryStrategy: () => 10 })
    client.on('error', () => {})
  })
  afterAll(async () => {
    client.disconnect()
    await proxy.close()
  })
  const connected = () => eventually(() => client.status === 'ready')

  test('passes requests and replies', async () => {
    const big = 'x'.repeat(5_000_000)
    await connected()
    expect(await client.set('big', big)).toBe('OK')
    expect((await client.get('big')) === big).toBe(true)
  })

  test('delays replies, in order', async () => {
    await connected()
    proxy.set({ kind: 'delay', ms: 100 })
    const start = performance.now()
    expect(await Promise.all([client.echo('a'), client.echo('b')])).toEqual(['a', 'b'])
    expect(performance.now() - start).toBeGreaterThan(95)
    proxy.set('pass')
  })

  test('delivers what came in a black hole afterwards', async () => {
    await connected()
    proxy.set('blackhole')
    const set = client.set('hole', '1')
    await expect(eventually(() => redis.cli('GET', 'hole'), { timeoutMs: 200 })).rejects.toThrow()
    expect(client.status).toBe('ready')
    proxy.set('pass')
    expect(await set).toBe('OK')
  })

  test('cuts and refuses connections until it is reset', async () => {
    await connected()
    proxy.set('cut')
    await eventually(() => client.status !== 'ready')
    await expect(client.get('big')).rejects.toThrow()
    expect(proxy.connections()).toBeLessThan(2)
    proxy.set('pass')
    await connected()
  })

  test('cuts before the reply of an executed command', async () => {
    await connected()
    await client.del('n')
    proxy.set({ kind: 'cut-before-reply', times: 1, when: (request) => request.includes('incr') })
    expect(await client.echo('others pass')).toBe('others pass')
    await expect(client.incr('n')).rejects.toThrow()
    await holds(async () => expect(await redis.cli('GET', 'n')).toBe('1'))
    expect(proxy.kept()).toBe(1)
    await connected()
    expect(await client.incr('n')).toBe(2)
  })

  test('lets half of a reply through, then cuts', async () => {
    const socket = connect(proxy.port, '127.0.0.1').setEncoding('utf8')
    proxy.set({ kind: 'cut-before-reply', times: 1, half: true })
    socket.write('ECHO 0123456789\r\n')
    expect(await socket.toArray()).toEqual(['$10\r\n012'])
    await connected()
  })

  test('gives replies in pieces of a few bytes, and what is left at once when it passes again', async () => {
    const socket = connect(proxy.port, '127.0.0.1').setEncoding('utf8')
    proxy.set({ kind: 'trickle', bytes: 3 })
    const long = `$1000000\r\n${'x'.repeat(1_000_000)}\r\n`
    socket.write(`ECHO 0123456789\r\n*2\r\n$4\r\nECHO\r\n${long}`)
    const replies = `$10\r\n0123456789\r\n${long}`
    const pieces: string[] = []
    let received = 0
    for await (const piece of socket) {
      pieces.push(piece)
      received += piece.length
      if (pieces.length === 4) proxy.set('pass')
      if (received >= replies.length) break
    }
    // The system may join pieces.
    expect(pieces.slice(0, 4).join('').length).toBeLessThan(10_000)
    expect(pieces.join('') === replies).toBe(true)
  })

  test('cuts before the reply of an executed pipeline', async () => {
    await connected()
    await client.del('m')
    proxy.set({ kind: 'cut-before-reply', times: 1 })
    const results = await Promise.allSettled(Array.from({ length: 500 }, () => client.incr('m')))
    expect(results.every(({ status }) => status === 'rejected')).toBe(true)
    await holds(async () => expect(await redis.cli('GET', 'm')).toBe('500'))
    await connected()
  })
})

describe('freshDatabase and freshRedisUrl', () => {
  test('give a database on the wrong character set, which is gone when dropped', async () => {
    const database = await freshDatabase()
    const [row] = await database.sql('SELECT DATABASE() AS name, @@character_set_database AS charset')
    expect(row).toEqual({ name: new URL(database.url).pathname.slice(1), charset: 'latin1' })
    await database.drop()
    await database.drop()
    await expect(database.sql('SELECT 1')).rejects.toThrow(/Unknown database/)
  })

  test('give a prefix of the shared Redis', () => {
    const [a, b] = [new URL(freshRedisUrl()), new URL(freshRedisUrl())]
    expect(a.searchParams.get('prefix')).not.toBe(b.searchParams.get('prefix'))
    a.search = ''
    expect(a.href).toBe(inject('redisUrl'))
  })
})
