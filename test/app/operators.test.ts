/** What operators are told is wrong, from the state of the queue and the reports of the workers. */
import { expect, test } from 'vitest'
import { conditionsOf, Operators } from '../../src/app/operators.ts'
import { SpillwayError } from '../../src/model/error.ts'
import { mostWorkers, type Operations, type SeenWorker } from '../../src/queue/operations.ts'
import type { QueueStatus } from '../../src/queue/queue.ts'
import { quiet } from '../harness/quiet.ts'

const status: QueueStatus = {
  ...{ depth: 0, inFlight: 0, oldestAgeMs: 0, deadLetters: 0, capacity: 10 },
  durability: 'FSYNC',
}
const now = Date.now()

function seen(name: string, silentMs: number, report: Partial<SeenWorker['report']> = {}): SeenWorker {
  const base = { name, host: 'h', pid: 1, release: '0.1.0', startedAt: now - 60_000, stopped: false, paused: false }
  return {
    report: { ...base, held: [], rowsPerSecond: 0, lastError: undefined, ...report },
    seenAt: now - silentMs,
    silentMs,
  }
}

function operators(workers: readonly SeenWorker[], queue: () => Promise<QueueStatus> = async () => status): Operators {
  const operations = { workers: async () => workers } as unknown as Operations
  return new Operators({ queue: { operations, status: queue }, log: quiet() })
}

test('Operators.workers lists those that run in the order of their start, then the ended ones, latest first', async () => {
  const list = await operators([
    seen('gone long ago', 100_000),
    seen('late', 1_000, { startedAt: now - 1 }),
    seen('stopped', 50_000, { stopped: true }),
    seen('early', 11_000),
    seen('paused', 1, { paused: true, startedAt: now - 2 }),
  ]).workers()
  expect(list.map(({ name, state }) => [name, state])).toEqual([
    ['early', 'WORKING'],
    ['paused', 'PAUSED'],
    ['late', 'WORKING'],
    ['stopped', 'STOPPED'],
    ['gone long ago', 'GONE'],
  ])
  expect(list.map(({ endedAt }) => endedAt && now - +endedAt)).toEqual([
    undefined,
    undefined,
    undefined,
    50_000,
    100_000,
  ])
  expect(list.length).toBeLessThanOrEqual(mostWorkers)
})

test('Operators.conditions answers QUEUE_UNAVAILABLE where the queue does not answer', async () => {
  const away = async () => {
    throw new SpillwayError('QUEUE_UNAVAILABLE', 'away')
  }
  expect(await operators([], away).conditions()).toMatchObject([
    { kind: 'QUEUE_UNAVAILABLE', code: 'QUEUE_UNAVAILABLE' },
  ])
})

test('Operators.conditions answers NO_WORKER since the last one ended, with the last error, and no more for others that run', async () => {
  const lastError = { at: now - 60_000, message: 'waiting for the database', code: 'ECONNREFUSED' }
  const ended = [seen('a', 70_000), seen('b', 50_000, { lastError })]
  const [condition, ...others] = await operators(ended).conditions()
  expect(others).toEqual([])
  expect(condition).toMatchObject({ kind: 'NO_WORKER', lastError: { message: 'waiting for the database' } })
  expect(now - +condition!.since!).toBe(50_000)
  expect(await operators([...ended, seen('c', 0)]).conditions()).toEqual([])
})

test('conditionsOf has the worst first, each since when', () => {
  const found = conditionsOf(
    { ...status, depth: 10, oldestAgeMs: 60_000, paused: { since: now - 30_000, by: 'x' } },
    [],
  )
  expect(found.map(({ kind }) => kind)).toEqual(['NO_WORKER', 'PAUSED', 'QUEUE_FULL', 'QUEUE_GROWS'])
  expect(found.map(({ since }) => since && Math.round((now - +since) / 10_000) * 10)).toEqual([
    undefined,
    30,
    undefined,
    60,
  ])
})
