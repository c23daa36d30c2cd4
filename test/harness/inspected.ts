/**
 * An API in a process of its own that tells what it holds: heap after a collection, sockets, timers. `inspect()` starts it, from a test;
 * the process itself runs this same file.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { queryObjects } from 'node:v8'
import { WebSocket } from 'ws'
import { readConfig } from '../../src/config.ts'
import * as given from '../../src/models/index.ts'
import { startApi } from '../../src/start.ts'
import { type Intervals, withIntervals } from './intervals.ts'
import { inherited } from './process.ts'

export interface Holding {
  /** After a collection: the heap and what buffers hold outside of it. */
  bytes: number
  rss: number
  /** What keeps the process alive, by kind. */
  resources: Record<string, number>
  sockets: number
  responses: number
  webSockets: number
}

export interface Inspected {
  readonly url: string
  readonly pid: number
  holding(): Promise<Holding>
  /** Starts and closes so many more APIs in the same process, a multiple of 4, each with a subscriber that is there to the end. */
  cycle(times: number): Promise<void>
  stop(): Promise<void>
}

/** `tree`: the path of a copy of the project (tree.ts), in place of the project. */
export async function inspect(
  env: Record<string, string>,
  { tree, intervals = {} }: { tree?: string | undefined; intervals?: Intervals } = {},
): Promise<Inspected> {
  const file = tree ? join(tree, 'test/harness/inspected.ts') : fileURLToPath(import.meta.url)
  const child = fork(file, {
    execArgv: ['--expose-gc', '--disable-warning=ExperimentalWarning', ...withIntervals(intervals)],
    env: { ...inherited(), PORT: '0', ...env },
  })
  const { url } = (await answer(child)) as { url: string }
  const ask = async (question: object) => {
    if (!child.connected) throw new Error(`the inspected API ended with ${child.exitCode ?? child.signalCode}`)
    child.send(question)
    return await answer(child)
  }
  return {
    url,
    pid: child.pid!,
    holding: async () => (await ask({ ask: 'holding' })) as Holding,
    cycle: async (times) => void (await ask({ ask: 'cycle', times })),
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
  }
}

function answer(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const ack = () => {
      child.off('message', told)
      child.off('exit', ended)
    }
    const told = (message: { error?: string }) => {
      ack()
      if (message.error) reject(new Error(message.error))
      else resolve(message)
    }
    const ended = (code: number | null, signal: string | null) => {
      ack()
      reject(new Error(`the inspected API ended with ${code ?? signal}`))
    }
    child.on('message', told)
    child.on('exit', ended)
  })
}

async function look(): Promise<Holding> {
  // What a first collection finalises, a second one frees.
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => setImmediate(resolve))
    globalThis.gc!()
  }
  const { heapUsed, external, rss } = process.memoryUsage()
  const resources: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo()) resources[kind] = (resources[kind] ?? 0) + 1
  const count = (kind: NewableFunction) => queryObjects(kind as never, { format: 'count' }) as number
  return {
    bytes: heapUsed + external,
    rss,
    resources,
    sockets: count(Socket),
    responses: count(ServerResponse),
    webSockets: count(WebSocket),
  }
}

const silent = { info() {}, warn() {}, error() {} }

/** Four at a time, since a start and a stop wait more than they compute. */
async function cycle(times: number): Promise<void> {
  for (let i = 0; i < times; i += 4) await Promise.all([1, 2, 3, 4].map(startAndClose))
}

async function startAndClose(): Promise<void> {
  const api = await startApi(readConfig(), given, silent)
  const subscriber = await fetch(`${api.url}/graphql?query=subscription{saved{cursor}}`, {
    headers: { accept: 'text/event-stream' },
  })
  const socket = new WebSocket(`${api.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws')
  await once(socket, 'open')
  const ended = Promise.all([subscriber.text(), once(socket, 'close')])
  await api.close()
  await ended
}

if (process.send && process.argv[1] === fileURLToPath(import.meta.url)) {
  // It does not outlive who started it.
  process.on('disconnect', () => process.exit())
  const api = await startApi(readConfig(), given, silent)
  process.on('message', async ({ ask, times }: { ask: string; times: number }) => {
    try {
      if (ask === 'cycle') await cycle(times)
      process.send!(ask === 'holding' ? await look() : {})
    } catch (error) {
      process.send!({ error: String((error as Error).stack) })
    }
  })
  process.send({ url: api.url })
}
