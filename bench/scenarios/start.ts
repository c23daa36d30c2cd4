/** From `node …` until a process is ready, and until the first save is a row. The files it loads are in the page cache. */
import { mkdtemp, rm } from 'node:fs/promises'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { launch } from '../../test/harness/child.ts'
import { once, requestOf } from '../client.ts'
import { type Contender, type Figures, startSpillway } from '../contender.ts'
import type { Parts } from '../parts.ts'
import { cpuMs, residentKiB } from '../process-figures.ts'
import type { Scenario } from '../scenario.ts'

interface Program {
  args: string[]
  env: Record<string, string>
  /** A GET of it is 200 as soon as the process is ready. */
  path: string
}

interface Started {
  figures: Figures
  url: string
  stop(): Promise<void>
}

/** Where `npm start` has it. */
const compileCache = fileURLToPath(new URL('../../.bundle/compiled', import.meta.url))

const file = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

async function start({ args, env, path }: Program): Promise<Started> {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-start-'))
  const listening = Promise.withResolvers<string>()
  const since = performance.now()
  const child = launch(process.execPath, args, {
    env: { PATH: process.env.PATH, NODE_ENV: 'production', NODE_COMPILE_CACHE: compileCache, ...env },
    cwd: dir,
    throwAway: dir,
    onLine(line) {
      const url = /"url":"(http:[^"]+)"/.exec(line)?.[1]
      if (url !== undefined) listening.resolve(url)
    },
  })
  void child.exited.then((exit) => listening.reject(new Error(`it ended with ${exit}:\n${child.logs().slice(-4_000)}`)))
  const url = await listening.promise
  while (!(await isOk(`${url}${path}`))) await new Promise((resolve) => setTimeout(resolve, 1))
  const figures = {
    'ready ms': performance.now() - since,
    'CPU ms': cpuMs(child.pid),
    'RSS MiB': residentKiB(child.pid) / 1_024,
  }
  return {
    figures,
    url,
    stop: async () => {
      child.kill('SIGTERM')
      await child.exited
      await rm(dir, { recursive: true, force: true })
    },
  }
}

function isOk(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get(url, { agent: false, headers: { accept: 'application/json' } }, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    request.on('error', () => resolve(false))
  })
}

/** `args`: of the field; resolves when the answer has this status. */
async function save(url: string, args: string, status: 'QUEUED' | 'SAVED'): Promise<void> {
  const query = `mutation { save(content: "the first one"${args}) { saveId status } }`
  const check = (body: string) => {
    if (!body.includes(`"status":"${status}"`)) throw new Error(`the first save was answered with ${body}`)
  }
  await once({ url, requests: [requestOf(url, '/graphql', JSON.stringify({ query }))], check })
}

/** `api`: of a worker. The first save waits for it in the queue. */
async function measured(program: Program, waits: boolean, api?: string): Promise<Figures> {
  const since = performance.now()
  const saved = async (url: string) => {
    await save(url, waits ? ', waitMs: 20000' : '', waits ? 'SAVED' : 'QUEUED')
    return performance.now() - since
  }
  const waiting = api === undefined ? undefined : saved(api)
  // Where the start fails it says more.
  waiting?.catch(() => {})
  const { figures, url, stop } = await start(program)
  try {
    return { ...figures, 'first save ms': await (waiting ?? saved(url)) }
  } finally {
    await stop()
  }
}

const spillway = (role: 'api' | 'worker', env: Record<string, string>): Program => ({
  args: ['--disable-warning=ExperimentalWarning', file(role === 'api' ? 'src/main.ts' : 'worker/main.ts')],
  env: { [role === 'api' ? 'PORT' : 'WORKER_PORT']: '0', ...env },
  path: '/readyz',
})

const peer = (name: string, source: string): Contender => ({
  name,
  role: 'peer',
  start: async ({ env }) => ({
    measure: () =>
      measured(
        {
          args: ['--disable-warning=ExperimentalWarning', file(`bench/peers/${source}.ts`)],
          env: { ...env, QUEUE_NAME: 'start' },
          path: '/graphql?query=%7Bok%7D',
        },
        false,
      ),
    stop: async () => {},
  }),
})

/** Its own queue on the Redis of all, so that no other worker takes its saves. */
function withQueue(parts: Parts, prefix: string): Record<string, string> {
  const queue = new URL(parts.env.QUEUE_URL!)
  queue.searchParams.set('prefix', prefix)
  return { ...parts.env, QUEUE_URL: queue.href }
}

const embedded: Contender = {
  name: 'Spillway, embedded, new files',
  role: 'ours',
  // Its files are in the working directory, which is empty.
  start: async () => ({ measure: () => measured(spillway('api', {}), true), stop: async () => {} }),
}

const api: Contender = {
  name: 'Spillway, an API on Redis',
  role: 'ours',
  async start(parts) {
    const env = withQueue(parts, 'start-api')
    const worker = await startSpillway('worker', env)
    return { measure: () => measured(spillway('api', env), true), stop: worker.stop }
  },
}

const worker: Contender = {
  name: 'Spillway, a worker',
  role: 'ours',
  async start(parts) {
    const env = withQueue(parts, 'start-worker')
    const { url, stop } = await startSpillway('api', env)
    return { measure: () => measured(spillway('worker', env), true, url), stop }
  },
}

const script = `require('node:http').createServer((_, response) => response.end('{}')).listen(0, '127.0.0.1', function () {
  console.log(JSON.stringify({ url: 'http://127.0.0.1:' + this.address().port }))
})`

const bareServer: Contender = {
  name: 'node:http that answers {}',
  role: 'limit',
  start: async () => ({
    async measure() {
      const { figures, stop } = await start({ args: ['-e', script], env: {}, path: '/' })
      await stop()
      return figures
    },
    stop: async () => {},
  }),
}

const nothing: Contender = {
  name: 'node -e 0, until it has ended',
  role: 'limit',
  start: async () => ({
    async measure() {
      const since = performance.now()
      await launch(process.execPath, ['-e', '0'], { env: {} }).exited
      return { 'ready ms': performance.now() - since }
    },
    stop: async () => {},
  }),
}

const nearest = peer('Mercurius + jit + XADD', 'mercurius-stream')
const bullmq = peer('stock Yoga + Pothos + BullMQ', 'yoga-bullmq')
const direct = peer('stock Yoga + Pothos + Prisma create', 'yoga-create')

export const starting: Scenario = {
  name: 'start',
  title: 'from start to ready, and to the first row',
  figure: 'ready ms',
  unit: 'ms',
  note: 'From the start of the process until a GET of /readyz (of the peers: of a query) is 200; CPU and resident memory then. The first save is sent as soon as it is ready: to Spillway with waitMs, until it is SAVED (the API on Redis has a worker that runs already; that of the worker is in the queue before it starts); to the peers, until it is acknowledged. Embedded, the start creates both files and migrates the store. Spillway runs as npm start runs it, from its bundle and with the compile cache of Node; the peers from their packages, with the cache.',
  contenders: [embedded, api, worker, nearest, bullmq, direct, bareServer, nothing],
  targets: [
    { figure: 'first save ms', unit: 'ms', atMost: 600 },
    { figure: 'CPU ms', unit: 'ms' },
    { figure: 'RSS MiB', unit: 'MiB' },
    { beside: nearest.name, figure: 'ready ms', unit: 'ms' },
    { beside: bullmq.name, figure: 'ready ms', unit: 'ms' },
    { beside: direct.name, figure: 'ready ms', unit: 'ms' },
    { beside: bareServer.name, figure: 'ready ms', unit: 'ms' },
    { beside: nothing.name, figure: 'ready ms', unit: 'ms' },
  ],
}
