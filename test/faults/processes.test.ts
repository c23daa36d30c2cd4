/**
 * Three API processes that share a port, while clients save and subscribers follow: one is killed, all are replaced one by one, and all are
 * stopped. Every acknowledged id becomes one row, every subscriber gets every event once and in order, and no connection is refused.
 */
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { apiProcesses, openFiles, stillRunning } from '../harness/machine.ts'
import { Raw } from '../harness/raw.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { cursorNow, Subscriber, wires } from '../harness/subscriber.ts'
import { record } from './table.ts'

const processes = 3

let stack: Stack
let subscribers: Subscriber[] = []

beforeAll(async () => {
  stack = await Stack.start({ apis: 1, workers: 1, env: { API_PROCESSES: String(processes) } })
}, 120_000)

afterAll(() => stack?.stop())

const linesWith = (text: string) =>
  stack.api
    .logs()
    .split('\n')
    .filter((line) => line.includes(text)).length

/** Injects a fault while clients save and subscribers follow, and judges. */
function fault(id: string, name: string, inject: () => Promise<void>): void {
  test(`${id}: ${name}`, { timeout: 120_000 }, async () => {
    const { url } = stack
    const after = await cursorNow(url)
    const rowsBefore = (await stack.rows()).size
    subscribers = wires.map((wire) => new Subscriber(wire, after, () => url).start())
    try {
      stack.write(2)
      await stack.more(100)
      await inject()
      const verdict = await stack.verdict(name)
      record(id, 'redis + mariadb', verdict)
      expectSound(verdict)
      const rows = (await stack.rows()).size - rowsBefore
      await holds(() => expect(subscribers.map(({ ids }) => ids.size)).toEqual(subscribers.map(() => rows)))
      expect(subscribers.flatMap(({ faults }) => faults)).toEqual([])
      const [first, ...others] = subscribers.map(({ seen }) => seen.join('\n'))
      for (const other of others) expect(other).toBe(first)
    } finally {
      await stack.stopWriting()
      await Promise.all(subscribers.map((subscriber) => subscriber.stop()))
    }
  })
}

test('new connections are spread over all API processes', async () => {
  const pids = apiProcesses(stack.api.pid)
  expect(pids).toHaveLength(processes)
  const before = pids.map(openFiles)
  const raws: Raw[] = []
  try {
    for (let i = 0; i < 40; i++) {
      const raw = await Raw.open(stack.url)
      raws.push(raw)
      await raw.send(`GET /livez HTTP/1.1\r\nHost: ${new URL(stack.url).host}\r\n\r\n`)
      await holds(() => expect(raw.statuses).toEqual([200]), { intervalMs: 2 })
    }
    for (const [i, pid] of pids.entries()) expect(openFiles(pid) - before[i]!).toBeGreaterThanOrEqual(5)
  } finally {
    for (const raw of raws) raw.close()
  }
})

fault('A15', 'one of three API processes killed', async () => {
  const pids = apiProcesses(stack.api.pid)
  process.kill(pids[1]!, 'SIGKILL')
  await holds(() => expect(apiProcesses(stack.api.pid).filter((pid) => !pids.includes(pid))).toHaveLength(1))
  await holds(async () =>
    expect(await (await fetch(`${stack.url}/metrics`)).text()).toContain(`\nspillway_api_processes ${processes}\n`),
  )
  await stack.more(100)
  expect(linesWith('an API process has ended; another one replaces it')).toBe(1)
})

fault('A16', 'three API processes replaced one by one on SIGUSR2', async () => {
  const pids = apiProcesses(stack.api.pid)
  const before = linesWith('the API processes were restarted')
  const { hostname, port } = new URL(stack.url)
  let refused = 0
  const knocking = setInterval(() => {
    const socket = connect(Number(port), hostname, () => socket.destroy())
    socket.on('error', () => refused++)
  }, 10)
  try {
    stack.api.kill('SIGUSR2')
    const progress = () => apiProcesses(stack.api.pid).join()
    await holds(() => expect(linesWith('the API processes were restarted')).toBe(before + 1), { progress })
    await stack.more(100)
  } finally {
    clearInterval(knocking)
  }
  expect(refused).toBe(0)
  expect(stillRunning(pids)).toEqual([])
  expect(apiProcesses(stack.api.pid)).toHaveLength(processes)
})

test('A12: SIGTERM under load ends all three API processes within the bound of a stop, and exits with 0', async () => {
  const { api } = stack
  const pids = apiProcesses(api.pid)
  stack.write(2)
  await stack.more(100)
  const since = performance.now()
  api.kill('SIGTERM')
  expect(await api.exited, api.logs().slice(-4_000)).toBe(0)
  expect(performance.now() - since).toBeLessThan(20_000)
  expect(stillRunning(pids)).toEqual([])
  await stack.kill(api)
  await stack.startApi({ API_PROCESSES: '1' })
  const verdict = await stack.verdict('SIGTERM to three API processes under load')
  record('A12', 'redis + mariadb', verdict)
  expectSound(verdict)
}, 120_000)
