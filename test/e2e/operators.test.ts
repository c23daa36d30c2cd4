/** What operators see and do over GraphQL: workers, conditions, look-ups, pause and resume of persisting; on both set-ups, with kills. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps } from '../harness/boot.ts'
import { type Client, client, type Json } from '../harness/client.ts'
import { freePort } from '../harness/daemon.ts'
import { holds } from '../harness/eventually.ts'
import { root } from '../harness/imports.ts'
import { statement } from '../harness/rows.ts'
import { secret, tokenOf } from '../harness/tenants.ts'

const workersQuery = `{ workers: queueWorkers {
  name state host pid release startedAt seenAt endedAt rowsPerSecond
  held { model inFlight parked waitingSince waitingCode } lastError { at message code }
} }`
const patience = { timeoutMs: 60_000 }
const { version: release } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

describe.each(setUps)('Spillway (%s)', (setUp) => {
  let system: Spillway
  let operator: Client
  let workerPort: number
  beforeAll(async () => {
    workerPort = await freePort()
    const env = { AUTH_JWT_SECRET: secret, QUEUE_CAPACITY: '2000', ...(setUp !== 'embedded' && { QUEUE_SHARDS: '2' }) }
    system = await boot(setUp, {
      env,
      workers: 0,
      intervals: { reportEveryMs: 1_000, sharedMs: 1, growsAfterMs: 2_000 },
    })
    operator = client(() => system.url, await tokenOf({ sub: 'the operator' }, { expires: '1h' }))
    if (!system.embedded) await system.startWorker({ WORKER_PORT: String(workerPort) })
  })
  afterAll(() => system?.stop())

  async function ask(query: string): Promise<Json> {
    const { body } = await operator.graphql(query)
    expect(body.errors).toBeUndefined()
    return body.data
  }
  const workers = async (): Promise<Json[]> => (await ask(workersQuery)).workers
  const conditions = async (): Promise<Json[]> =>
    (await ask('{ conditions: queueConditions { kind since models code } }')).conditions
  const kinds = async () => (await conditions()).map(({ kind }) => kind)
  const paused = async () => (await ask('{ queue { paused { since by } } }')).queue.paused
  const working = () => (system.embedded ? system.api : system.workers[0]!)
  const stateOf = async (pid: number) => (await workers()).find((worker) => worker.pid === pid)?.state
  const save = (content: string) =>
    holds(async () => {
      const answer = await operator.save(content, { id: randomUUID() })
      expect(answer.status).toBe(202)
      return answer.id
    }, patience)
  const statusOf = async (id: string) => (await operator.receipt(id)).status
  const metric = async () =>
    (await (await operator.fetch('/metrics')).text()).match(/^spillway_persisting_paused (\S+)$/m)?.[1]

  test('lists its workers with host, process, release and what they hold, and no condition while it works', async () => {
    const [worker] = await holds(async () => {
      const all = await workers()
      expect(all).toHaveLength(1)
      expect(await kinds()).toEqual([])
      return all
    }, patience)
    expect(worker).toMatchObject({ pid: working().pid, release, state: 'WORKING', endedAt: null })
    expect(worker.name).toContain(`${worker.host}-${worker.pid}-`)
    expect(+new Date(worker.startedAt)).toBeLessThanOrEqual(Date.now())
  })

  test.each(['queueWorkers { pid }', 'queueConditions { kind }'])(
    'refuses { %s } without the scope admin',
    async (field) => {
      const reader = client(system.url, await tokenOf({ scope: 'read write' }))
      const { body } = await reader.graphql(`{ ${field} }`)
      expect(body.errors[0].extensions.code).toBe('FORBIDDEN')
    },
  )

  test.each(['pausePersisting', 'resumePersisting'])('refuses %s without the scope admin', async (field) => {
    const reader = client(system.url, await tokenOf({ scope: 'read write' }))
    const { body } = await reader.graphql(`mutation { ${field} { depth } }`)
    expect(body.errors[0].extensions.code).toBe('FORBIDDEN')
    expect(await paused()).toBeNull()
  })

  test('persists nothing while paused, through a crash of all processes, and everything after it is resumed', async () => {
    const since = Date.now()
    const { pausePersisting } = await ask('mutation { pausePersisting { paused { since by } } }')
    expect(pausePersisting.paused.by).toBe('the operator')
    expect(+new Date(pausePersisting.paused.since)).toBeGreaterThanOrEqual(since - 1_000)
    expect(system.api.logs()).toContain('an operator paused persisting')
    // A second pause does not change who paused it.
    const other = client(system.url, await tokenOf({ sub: 'another one' }))
    await other.graphql('mutation { pausePersisting { depth } }')
    await holds(async () => expect(await stateOf(working().pid)).toBe('PAUSED'), patience)
    expect(working().logs()).toContain('persisting is paused')

    // The last call of receive has ended two seconds after the pause: by then the worker has reported twice.
    const [{ seenAt }] = await workers()
    await holds(
      async () => expect(+new Date((await workers())[0].seenAt)).toBeGreaterThan(+new Date(seenAt) + 1_500),
      patience,
    )
    const ids = await Promise.all(Array.from({ length: 10 }, (_, n) => save(`while paused ${n}`)))
    await system.crash()
    await holds(async () => expect(await stateOf(working().pid)).toBe('PAUSED'), patience)
    ids.push(await save('after the crash'))
    expect(await paused()).toEqual(pausePersisting.paused)
    expect(await kinds()).toContain('PAUSED')
    expect(await holds(metric, patience)).toBe('1')
    const ready = await (await operator.fetch('/readyz')).json()
    expect(ready).toMatchObject({
      status: 'ready',
      queue: { state: 'ready', pausedSince: pausePersisting.paused.since },
    })
    const pausedWorker = (await workers()).find((worker) => worker.pid === working().pid)
    expect(pausedWorker.held).toEqual([])
    for (const id of ids) expect(await statusOf(id)).toBe('QUEUED')
    await holds(async () => {
      const { depth, capacity } = (await ask('{ queue { depth capacity } }')).queue
      // Of two shards, the one with more room has a half of it at least.
      const inputs = Array.from({ length: Math.ceil((capacity - depth) / 4) }, () => ({ content: 'until it is full' }))
      if (inputs.length > 0) await operator.saveMany(inputs)
      expect(depth).toBe(capacity)
    }, patience)
    await holds(async () => expect(await kinds()).toEqual(['PAUSED', 'QUEUE_FULL', 'QUEUE_GROWS']), patience)
    const grows = (await conditions()).find(({ kind }) => kind === 'QUEUE_GROWS')
    expect(Math.abs(+new Date(grows.since) - since)).toBeLessThan(60_000)

    const { resumePersisting } = await ask('mutation { resumePersisting { paused { since } } }')
    expect(resumePersisting.paused).toBeNull()
    for (const id of ids) await holds(async () => expect(await statusOf(id)).toBe('SAVED'), patience)
    expect(await metric()).toBe('0')
    expect(working().logs()).toContain('persisting is resumed')
    expect(await operator.deadLetters()).toEqual([])
    await holds(async () => expect(await kinds()).toEqual([]), patience)
    await holds(async () => expect(await stateOf(working().pid)).toBe('WORKING'), patience)
  })

  const lookUp = async (id: string): Promise<Json> => {
    const admin = client(system.url, await tokenOf({ scope: 'admin' }))
    const { body } = await admin.graphql(
      `{ found: saveLookup(id: "${id}") { receipt { status } row deadLetterCount deadLetters { saveId } } }`,
    )
    const errors = (body.errors ?? []).map(({ path, extensions }: Json) => [path.at(-1), extensions.code])
    return { ...body.data.found, errors: Object.fromEntries(errors) }
  }

  test('tells since when the database takes no rows of which model, and with which code', async () => {
    const url = system.env.DATABASE_URL!
    const since = Date.now()
    await statement(url, 'ALTER TABLE Content RENAME TO Elsewhere')
    let id: string
    try {
      id = await save('while the table is away')
      const condition = await holds(async () => {
        const found = (await conditions()).find(({ kind }) => kind === 'DATABASE_UNAVAILABLE')
        expect(found).toMatchObject({ models: ['Content'] })
        expect(await stateOf(working().pid)).toBe('WAITING')
        return found
      }, patience)
      expect(+new Date(condition.since)).toBeGreaterThanOrEqual(since)
      expect(condition.code).toMatch(/^\w+$/)
      const worker = (await workers()).find(({ pid }) => pid === working().pid)
      expect(worker.held).toMatchObject([{ model: 'Content', waitingCode: condition.code }])
      expect(worker.lastError.message).toBe('the database takes no rows of this model')
      const parts = { row: null, deadLetterCount: 0, deadLetters: [] }
      const unreadable = { row: 'STORE_UNAVAILABLE' }
      expect(await lookUp(id)).toEqual({ ...parts, receipt: { status: 'QUEUED' }, errors: unreadable })
      const errors = { ...unreadable, receipt: 'STORE_UNAVAILABLE' }
      expect(await lookUp(randomUUID())).toEqual({ ...parts, receipt: null, errors })
    } finally {
      await statement(url, 'ALTER TABLE Elsewhere RENAME TO Content')
    }
    await holds(async () => expect(await statusOf(id)).toBe('SAVED'), patience)
    await holds(async () => expect(await kinds()).toEqual([]), patience)
    const row = expect.objectContaining({ id, content: 'while the table is away' })
    expect(await lookUp(id)).toMatchObject({ receipt: { status: 'SAVED' }, row, errors: {} })
  })

  test('tells that a killed worker is gone and that a stopped one has stopped, each since its end', async () => {
    const killed = working().pid
    const killedAt = Date.now()
    await system.kill(working())
    if (system.embedded) await system.startApi()
    else await holds(async () => expect(await kinds()).toEqual(['NO_WORKER']), patience)
    await holds(async () => expect(await stateOf(killed)).toBe('GONE'), patience)
    const gone = (await workers()).find(({ pid }) => pid === killed)
    expect(+new Date(gone.endedAt)).toBeLessThan(killedAt + 1_000)
    expect(gone.endedAt).toBe(gone.seenAt)

    if (!system.embedded) await system.startWorker()
    const stopped = await holds(async () => {
      expect(await stateOf(working().pid)).toBe('WORKING')
      return working().pid
    }, patience)
    await system.kill(working(), 'SIGTERM')
    if (system.embedded) await system.startApi()
    await holds(async () => expect(await stateOf(stopped)).toBe('STOPPED'), patience)
    expect((await workers()).find(({ pid }) => pid === stopped)).toMatchObject({ rowsPerSecond: 0, held: [] })
    expect(await stateOf(killed)).toBe('GONE')
  })
})
