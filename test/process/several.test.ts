/** Several API processes on one machine (API_PROCESSES): a shared port, metrics added up, limits of the machine, and no orphan. */
import { once } from 'node:events'
import { request } from 'node:http'
import { createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { memoryAdvice } from '../../src/processes/memory.ts'
import type { Exit } from '../harness/child.ts'
import { client } from '../harness/client.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { withIntervals } from '../harness/intervals.ts'
import { apiProcesses, openFiles, stillRunning } from '../harness/machine.ts'
import { type SpillwayProcess, spawnSpillway } from '../harness/process.ts'
import { Raw } from '../harness/raw.ts'
import { startRedis } from '../harness/redis.ts'
import { SseClient } from '../harness/sse.ts'
import { secret, tokenOf } from '../harness/tenants.ts'

const perSecond = 10
const streams = 3
const connections = 31

const queueUrl = freshRedisUrl()
let machine: SpillwayProcess
let subjects = 0

beforeAll(async () => {
  machine = await spawnSpillway('api', {
    API_PROCESSES: '2',
    QUEUE_URL: queueUrl,
    AUTH_JWT_SECRET: secret,
    RATE_LIMIT: String(perSecond),
    STREAM_LIMIT: String(streams),
    MAX_CONNECTIONS: String(connections),
  })
}, 90_000)

afterAll(async () => {
  machine.kill('SIGKILL')
  await machine.exited
})

/** The headers of a client that no limit has counted yet. */
async function newClient(): Promise<{ authorization: string }> {
  return { authorization: `Bearer ${await tokenOf({ sub: `client ${subjects++}` })}` }
}

interface Answer {
  status: number
  body: string
}

/** On a connection of its own. */
function ask(path: string, headers: Record<string, string>, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const method = body === undefined ? 'GET' : 'POST'
    const accept = { accept: 'application/json', connection: 'close' }
    const outgoing = request(machine.url + path, { method, agent: false, headers: { ...accept, ...headers } })
    outgoing.on('error', reject).on('response', async (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode!, body: text })).on('error', reject)
    })
    outgoing.end(body)
  })
}

/** The metrics, as one process answers them, by name and labels. */
async function metrics(headers?: Record<string, string>): Promise<Map<string, number>> {
  const { status, body } = await ask('/metrics', headers ?? (await newClient()))
  expect(status, body).toBe(200)
  return new Map([...body.matchAll(/^(\w+(?:\{.*\})?) (\S+)$/gm)].map(([, name, value]) => [name!, Number(value)]))
}

const accepted = 'spillway_saves_accepted_total{model="Content"}'

test('/metrics adds up the counters of all API processes, and does not multiply what all of them read', async () => {
  const headers = await newClient()
  const before = apiProcesses(machine.pid).map((pid) => openFiles(pid))
  const saves = Array.from({ length: 10 }, (_, i) => ask('/save', headers, JSON.stringify({ content: `${i}` })))
  expect((await Promise.all(saves)).map(({ status }) => status)).toEqual(Array(10).fill(202))
  const scraper = await newClient()
  for (let i = 0; i < 4; i++) {
    const found = await metrics(scraper)
    expect(Object.fromEntries(found)).toMatchObject({
      [accepted]: 10,
      spillway_save_ack_duration_seconds_count: expect.any(Number),
      spillway_queue_depth: 10,
      spillway_queue_up: 1,
      spillway_queue_capacity: 1_000_000,
      spillway_api_processes: 2,
      spillway_api_processes_silent: 0,
    })
    // Two API processes and the primary.
    expect(found.get('process_open_fds')).toBeGreaterThan(before[0]! + before[1]!)
  }
})

test('a frozen API process is left out of /metrics: the gauges are of the others, and no counter falls', async () => {
  const [frozen] = apiProcesses(machine.pid)
  process.kill(frozen!, 'SIGSTOP')
  try {
    // The connections that the frozen process was given wait for it.
    const found = await Promise.any(Array.from({ length: 4 }, () => metrics()))
    expect(Object.fromEntries(found)).toMatchObject({
      [accepted]: 10,
      spillway_queue_depth: 10,
      spillway_api_processes_silent: 1,
    })
  } finally {
    process.kill(frozen!, 'SIGCONT')
  }
  await holds(async () => expect((await metrics()).get('spillway_api_processes_silent')).toBe(0))
})

test('RATE_LIMIT is the number of requests that all API processes together accept of a client in a second', async () => {
  const accepts = await eventually(
    async () => {
      const headers = await newClient()
      const since = performance.now()
      const answers = await Promise.all(Array.from({ length: 24 }, () => ask('/', headers)))
      // A slow burst takes more than the one second that the limit counts.
      if (performance.now() - since > 900) return undefined
      expect(answers.map(({ status }) => status).filter((status) => status !== 200 && status !== 429)).toEqual([])
      return answers.filter(({ status }) => status === 200).length
    },
    { timeoutMs: 60_000 },
  )
  expect(accepts).toBe(perSecond)
})

const savedQuery = 'subscription { saved { cursor } }'

async function openStreams(headers: Record<string, string>, count: number): Promise<SseClient[]> {
  const opened = []
  for (let i = 0; i < count; i++) opened.push(await SseClient.open(machine.url!, savedQuery, {}, headers))
  return opened
}

/** Answers a request and stays open. */
async function openConnection(headers: Record<string, string>): Promise<{ raw: Raw; status: number }> {
  const raw = await Raw.open(machine.url!)
  const host = new URL(machine.url!).host
  await raw.send(
    `GET /receipts/${crypto.randomUUID()} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: ${headers.authorization}\r\n\r\n`,
  )
  await holds(() => expect(raw.statuses.length).toBeGreaterThan(0))
  return { raw, status: raw.statuses[0]! }
}

test('STREAM_LIMIT and MAX_CONNECTIONS are those of the machine, also after one of its API processes was killed', async () => {
  const headers = await newClient()
  const open = await openStreams(headers, streams)
  expect(open.map(({ status }) => status)).toEqual([200, 200, 200])
  expect(await openStreams(headers, 1)).toMatchObject([{ status: 429 }])
  let ended = 0
  for (const stream of open) void stream.ended.then(() => ended++)

  const raws: Raw[] = []
  const isOpen = ({ socket }: Raw) => !socket.destroyed
  /** Opens connections until the machine refuses one; each is of a client of its own, so that RATE_LIMIT allows it. */
  const fill = async () => {
    for (;;) {
      const { raw, status } = await openConnection(await newClient())
      raws.push(raw)
      if (status === 503) break
      expect(status).toBe(404)
    }
    return raws.filter(isOpen).length
  }
  try {
    // The streams are connections, too, and so are those that the HTTP client keeps alive.
    expect(await fill()).toBeGreaterThan(connections / 2)
    expect((await ask('/livez', {})).status).toBe(200)
    const pids = apiProcesses(machine.pid)
    process.kill(pids[0]!, 'SIGKILL')
    await holds(() => expect(apiProcesses(machine.pid).filter((pid) => !pids.includes(pid))).toHaveLength(1))
    const scraper = await newClient()
    await holds(
      async () => {
        const found = Object.fromEntries(await metrics(scraper))
        expect(found).toMatchObject({ spillway_api_processes: 2, [accepted]: 10 })
      },
      { intervalMs: 500 },
    )
    // The killed process had streams, since new connections go round; those that it had count no more.
    expect(ended).toBeGreaterThan(0)
    const lost = ended
    expect((await openStreams(headers, lost)).map(({ status }) => status)).toEqual(Array(lost).fill(200))
    expect(await openStreams(headers, 1)).toMatchObject([{ status: 429 }])
    // Half of the connections are gone, and the process that is full leaves new ones to the other.
    expect(await fill()).toBeGreaterThan(connections - 10)
    expect(raws.filter(isOpen).length).toBeLessThanOrEqual(connections + 1)
  } finally {
    for (const raw of raws) raw.close()
  }
})

test('each API process lists one worker once, and no API process', async () => {
  const worker = await spawnSpillway('worker', { QUEUE_URL: queueUrl })
  try {
    const query = JSON.stringify({ query: '{ queueWorkers { pid state } }' })
    const list = async () => {
      const headers = { ...(await newClient()), 'content-type': 'application/json' }
      return JSON.parse((await ask('/graphql', headers, query)).body).data.queueWorkers
    }
    const one = [{ pid: worker.pid, state: 'WORKING' }]
    await holds(async () => expect(await list()).toEqual(one))
    for (let n = 0; n < 8; n++) expect(await list()).toEqual(one)
  } finally {
    worker.kill('SIGKILL')
    await worker.exited
  }
})

test('connections that killed API processes had not taken are closed or get a response, and all processes are replaced', async () => {
  const pids = apiProcesses(machine.pid)
  for (const pid of pids) process.kill(pid, 'SIGSTOP')
  const before = openFiles(machine.pid)
  const raws = await Promise.all(Array.from({ length: 6 }, () => Raw.open(machine.url!)))
  try {
    const { host } = new URL(machine.url!)
    for (const raw of raws) await raw.send(`GET /livez HTTP/1.1\r\nHost: ${host}\r\n\r\n`)
    await holds(() => expect(openFiles(machine.pid)).toBeGreaterThanOrEqual(before + 4))
    for (const pid of pids) process.kill(pid, 'SIGKILL')
    await holds(
      () => expect(raws.filter(({ socket, statuses }) => !socket.destroyed && statuses.length === 0)).toEqual([]),
      { timeoutMs: 40_000 },
    )
    await holds(() => {
      const now = apiProcesses(machine.pid)
      expect(now).toHaveLength(2)
      expect(now.filter((pid) => pids.includes(pid))).toEqual([])
    })
  } finally {
    for (const raw of raws) raw.close()
  }
}, 90_000)

test('API processes end when their primary is killed', async () => {
  const pids = apiProcesses(machine.pid)
  expect(pids).toHaveLength(2)
  machine.kill('SIGKILL')
  await holds(() => expect(stillRunning(pids)).toEqual([]))
  await expect(client(machine.url!).fetch('/livez')).rejects.toThrow()
})

test('memoryAdvice returns advice only where the API processes may take more memory than there is', () => {
  expect(memoryAdvice(4, { heap: 512, all: 3_584 })).toBeUndefined()
  expect(memoryAdvice(4, { heap: 512, all: 3_583 })).toContain(
    'may take 3584 MiB, and there are 3583: set NODE_OPTIONS=--max-old-space-size=511',
  )
  expect(memoryAdvice(4, { heap: 512, all: 1_024 })).toContain('set API_PROCESSES to at most 2')
})

describe('a machine that cannot start', () => {
  /** Its exit code and its log; it was seen to leave no process. */
  async function fails(env: Record<string, string>): Promise<{ exit: Exit; logs: string }> {
    const failed = await spawnSpillway('api', env, { ready: false })
    const seen = new Set<number>()
    const look = setInterval(() => apiProcesses(failed.pid).forEach((pid) => void seen.add(pid)), 50)
    const exit = await failed.exited
    clearInterval(look)
    await holds(() => expect(stillRunning([...seen])).toEqual([]))
    return { exit, logs: failed.logs() }
  }
  const linesWith = (logs: string, text: string) => logs.split('\n').filter((line) => line.includes(text)).length

  test('says once that its port is in use, or that API_PROCESSES needs another queue, and exits with 1', async () => {
    const occupier = createServer()
    occupier.listen(0, '127.0.0.1')
    await once(occupier, 'listening')
    const { port } = occupier.address() as { port: number }
    const embedded = fails({ API_PROCESSES: '2' })
    const taken = await fails({ API_PROCESSES: '3', QUEUE_URL: freshRedisUrl(), PORT: String(port) })
    occupier.close()
    expect(taken.exit, taken.logs).toBe(1)
    expect(linesWith(taken.logs, 'is in use'), taken.logs).toBe(1)
    const { exit, logs } = await embedded
    expect(exit, logs).toBe(1)
    expect(linesWith(logs, 'API_PROCESSES=2 needs a queue that processes share'), logs).toBe(1)
  }, 60_000)

  test('exits with 1 where the Redis of its queue evicts keys, and does not start API processes again and again', async () => {
    const redis = await startRedis({ args: ['--maxmemory', '64mb', '--maxmemory-policy', 'allkeys-lru'] })
    try {
      const { exit, logs } = await fails({ API_PROCESSES: '2', QUEUE_URL: redis.url })
      expect(exit, logs).toBe(1)
      expect(linesWith(logs, 'another one replaces it'), logs).toBeLessThan(4)
    } finally {
      await redis.cleanup()
    }
  }, 60_000)

  test('keeps its API processes where a restart fails, and exits with 1 after a bounded number of crashes in a row', async () => {
    const crashing = await spawnSpillway(
      'api',
      { API_PROCESSES: '2', QUEUE_URL: freshRedisUrl() },
      {
        main: new URL('../harness/crashing-api.ts', import.meta.url),
        execArgv: withIntervals({ maxDelayMs: 100 }),
      },
    )
    const first = apiProcesses(crashing.pid)
    crashing.kill('SIGUSR2')
    // The old processes go on where a new one does not start.
    await holds(() => expect(linesWith(crashing.logs(), 'were not restarted; the old ones go on')).toBe(1))
    expect(apiProcesses(crashing.pid)).toEqual(first)
    expect(linesWith(crashing.logs(), 'another one replaces it')).toBe(0)
    for (const pid of first) process.kill(pid, 'SIGKILL')
    expect(await crashing.exited, crashing.logs()).toBe(1)
    const replaced = linesWith(crashing.logs(), 'another one replaces it')
    expect(replaced).toBeGreaterThan(5)
    expect(replaced).toBeLessThan(30)
  }, 60_000)

  test('stops with 0 on SIGTERM while it starts, and leaves no API process', async () => {
    const starting = await spawnSpillway('api', { API_PROCESSES: '2', QUEUE_URL: freshRedisUrl() }, { ready: false })
    const pids = await holds(() => {
      const found = apiProcesses(starting.pid)
      expect(found).not.toEqual([])
      return found
    })
    starting.kill('SIGTERM')
    expect(await starting.exited, starting.logs()).toBe(0)
    await holds(() => expect(stillRunning(pids)).toEqual([]))
  }, 60_000)
})
