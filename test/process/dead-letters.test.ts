/** `npm run dead-letters`, on both queues: its filters, dry runs, and what it says to wrong arguments. */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Failure } from '../../src/model/error.ts'
import { digestOf } from '../../src/model/model.ts'
import type { Entry, Queue } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { Content } from '../harness/contents.ts'
import { eventually } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { root } from '../harness/imports.ts'
import { inherited } from '../harness/process.ts'
import { quiet } from '../harness/quiet.ts'
import { testSqlite } from '../harness/sqlite.ts'
import { item } from '../suites/queue.ts'

const close: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const closing of close.splice(0).reverse()) await closing()
})

async function redis(): Promise<{ url: string; queue: Queue }> {
  const url = freshRedisUrl()
  const queue = new RedisQueue(parseRedisUrl(url), { capacity: 1_000, log: quiet() })
  close.push(() => queue.close())
  await queue.connection.whenReady(5_000)
  return { url, queue }
}

async function sqlite(): Promise<{ url: string; queue: Queue }> {
  const made = await testSqlite({ capacity: 1_000 })
  close.push(() => made.cleanup())
  return { url: `file:${made.path}`, queue: await made.queue() }
}

const run = promisify(execFile)

async function command(url: string, ...args: string[]): Promise<{ stdout: string; stderr: string; code?: number }> {
  const cwd = await mkdtemp(join(tmpdir(), 'spillway-shell-'))
  close.push(() => rm(cwd, { recursive: true, force: true }))
  const file = join(root, 'src/commands/dead-letters.ts')
  const env = { ...inherited(), QUEUE_URL: url, DATABASE_URL: 'mysql://nobody@127.0.0.1:1/none' }
  return await run(process.execPath, ['--disable-warning=ExperimentalWarning', file, ...args], { cwd, env }).catch(
    (error) => error,
  )
}

describe.each([
  ['Redis', redis],
  ['SQLite', sqlite],
])('npm run dead-letters on %s', (_, make) => {
  let url: string
  let queue: Queue
  const ids = [1, 2, 3, 4].map(() => randomUUID() as string)
  const codes = ['REJECTED', 'CRASHED', 'REJECTED', 'UNDECODABLE'] as const
  const hour = (n: number) => `2026-01-01T0${n}:00:00.000Z`
  beforeEach(async () => {
    ;({ url, queue } = await make())
    const consumer = queue.consumer('w')
    for (const [n, id] of ids.entries()) {
      const one = item(id, `content ${n}`, `digest-${n}`)
      await queue.enqueue([[n === 3 ? { ...one, body: 'no message' } : one]])
      const [entry] = (await eventually(async () => {
        const entries = await consumer.receive({ rows: 1, bytes: 1_000 }, 100)
        return entries.length > 0 && entries
      })) as Entry[]
      const failure: Failure = { code: codes[n]!, message: 'no', attempts: n, failedAt: new Date(hour(n)) }
      await consumer.deadLetter([{ entry: entry!, failure }])
    }
  })
  const line = (n: number) =>
    `${ids[n]}  ${hour(n)}  ${codes[n]}  after ${n}  "no"  ${n === 3 ? '-  "no message"' : `Content  {"content":"content ${n}"}`}\n`
  const listed = (...which: number[]) => `${which.map(line).join('')}dead letters: ${which.length}\n`

  test('lists what filters match, oldest first', { timeout: 60_000 }, async () => {
    const cases: [string[], number[]][] = [
      [[], [0, 1, 2, 3]],
      [
        ['--code', 'REJECTED'],
        [0, 2],
      ],
      [
        ['--model', 'Content'],
        [0, 1, 2],
      ],
      [
        ['--reason', 'NO'],
        [0, 1, 2, 3],
      ],
      [['--reason=nothing'], []],
      [
        ['--after', hour(1), '--before=2026-01-01T04:00:00+01:00'],
        [1, 2],
      ],
      [['--code=REJECTED', '--after', '2026-01-02'], []],
    ]
    for (const [args, which] of cases)
      expect(await command(url, 'list', ...args), args.join(' ')).toMatchObject({
        stdout: listed(...which),
        stderr: '',
      })
  })

  test('retries, edits and discards what is named or filters match, and nothing in a dry run', {
    timeout: 60_000,
  }, async () => {
    const left = async () => (await queue.deadLetters(10)).deadLetters.map(({ id }) => ids.indexOf(id))
    expect((await command(url, 'retry', '--code', 'REJECTED', '--dry-run')).stdout).toBe(
      'dry run; would be back in the queue: 2\n',
    )
    expect((await command(url, 'discard', '--all', '--dry-run')).stdout).toBe('dry run; would be discarded: 4\n')
    expect((await command(url, 'discard', ids[1]!.toUpperCase(), '--dry-run')).stdout).toBe(
      'dry run; would be discarded: 1\n',
    )
    expect(await left()).toEqual([0, 1, 2, 3])
    expect((await command(url, 'retry', '--code', 'REJECTED', '--before', hour(2))).stdout).toBe(
      'back in the queue: 1\n',
    )
    expect(await left()).toEqual([1, 2, 3])
    expect((await command(url, 'discard', '--model', 'Content', '--code', 'REJECTED')).stdout).toBe('discarded: 1\n')
    expect(await left()).toEqual([1, 3])
    const file = join(await mkdtemp(join(tmpdir(), 'spillway-edit-')), 'input.json')
    close.push(() => rm(dirname(file), { recursive: true }))
    await writeFile(file, '{ "content": "edited" }')
    expect((await command(url, 'edit', ids[1]!.toUpperCase(), file)).stdout).toBe(`back in the queue: ${ids[1]}\n`)
    const digest = digestOf(Content, { content: 'edited' })
    expect(await queue.find([ids[1]!], digest)).toMatchObject([{ status: 'QUEUED' }])
    expect((await command(url, 'edit', ids[1]!, file)).stderr).toMatch(/is not the id of a dead letter/)
    expect((await command(url, 'retry', '--all')).stdout).toBe('back in the queue: 1\n')
    expect(await queue.status()).toMatchObject({ depth: 3, deadLetters: 0 })
  })

  test('changes nothing with wrong arguments, and says what is right', { timeout: 120_000 }, async () => {
    const cases: [string[], RegExp][] = [
      [['retry'], /^usage: /],
      [['discard', '--dry-run'], /^usage: /],
      [['discard', '--all', '--code', 'REJECTED'], /^usage: /],
      [['discard', ids[0]!, '--code', 'REJECTED'], /^usage: /],
      [['discard', ids[0]!, '--all'], /^usage: /],
      [['list', ids[0]!], /^usage: /],
      [['edit', ids[0]!], /^usage: /],
      [['edit', ids[0]!, join(root, 'README.md')], /is not JSON; it must have an object with all columns by name$/m],
      [['list', '--dry-run'], /^usage: /],
      [['discard', '--code', 'rejected'], /^code must be one of ID_CONFLICT, .*, got "rejected"/],
      [['discard', '--reason='], /^reason must not be blank/],
      [['discard', '--code='], /^code must be one of .*, got ""/],
      [['discard', '--model', 'Unknown'], /^model must be one of Content.*, got "Unknown"/],
      [['discard', '--after', 'yesterday'], /^--after must be a time in ISO 8601 .* got "yesterday"/],
      [['discard', '--before', '2026-01-01T00:00:00'], /^--before must be a time in ISO 8601 with its zone/],
      [['discard', '--after', '2026-02-31'], /^--after must be a time/],
      [['discard', '--after', hour(2), '--before', hour(1)], /^failedAfter must be before failedBefore/],
      [['discard', '--after'], /argument missing\nusage: /],
      [['discard', '--since', hour(1)], /^Unknown option '--since'\nusage: /],
      [['--help'], /^Unknown option '--help'\nusage: /],
    ]
    for (const [args, message] of cases)
      expect(await command(url, ...args), args.join(' ')).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringMatching(message),
      })
    expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 4 })
  })
})
