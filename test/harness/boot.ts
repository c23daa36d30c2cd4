/** A whole Spillway as its users run it: real processes, a store, a queue and a cache; embedded, or on Redis and MariaDB. */
import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { afterAll } from 'vitest'
import type { Log } from '../../src/model/log.ts'
import type { Given } from '../../src/start.ts'
import type { Exit } from './child.ts'
import { type Client, client } from './client.ts'
import { freshDatabase, freshRedisUrl } from './fresh.ts'
import { type Intervals, withIntervals } from './intervals.ts'
import { type SpillwayProcess, spawnSpillway } from './process.ts'
import { quiet } from './quiet.ts'
import { temporary } from './temporary.ts'

export type SetUp = 'embedded' | 'redis + mariadb'
/** What is embedded has no engine that could be another one. */
export const setUps: SetUp[] = process.env.TEST_ENGINES ? ['redis + mariadb'] : ['embedded', 'redis + mariadb']

export interface BootOptions {
  /** Settings; they replace the addresses, too. */
  env?: Record<string, string>
  apis?: number
  /** An embedded Spillway has none. */
  workers?: number
  /** Of its processes, where a test would only wait. */
  intervals?: Intervals
  /** The path of a copy of the project (tree.ts), in place of the project. */
  tree?: string
}

export class Spillway {
  env: Record<string, string>
  readonly embedded: boolean
  apis: SpillwayProcess[] = []
  workers: SpillwayProcess[] = []
  readonly #execArgv: string[]
  readonly #tree: string | undefined
  readonly #clean: () => Promise<unknown>

  constructor(
    setUp: SetUp,
    env: Record<string, string>,
    options: { intervals?: Intervals | undefined; tree?: string | undefined; clean: () => Promise<unknown> },
  ) {
    this.embedded = setUp === 'embedded'
    this.env = env
    this.#execArgv = withIntervals(options.intervals ?? {})
    this.#tree = options.tree
    this.#clean = options.clean
  }

  /** Starts its first processes; where one does not start, it stops all of them and throws. */
  async start(apis: number, workers: number): Promise<this> {
    try {
      await Promise.all([
        ...Array.from({ length: apis }, () => this.startApi()),
        ...Array.from({ length: this.embedded ? 0 : workers }, () => this.startWorker()),
      ])
      return this
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  get api(): SpillwayProcess {
    return this.apis[0]!
  }

  get url(): string {
    return this.api.url!
  }

  get client(): Client {
    return this.api.client
  }

  /** `tree`: of another release than the others. */
  async startApi(env: Record<string, string> = {}, tree = this.#tree): Promise<SpillwayProcess> {
    const api = await this.#spawn('api', env, tree)
    this.apis.push(api)
    return api
  }

  async startWorker(env: Record<string, string> = {}, tree = this.#tree): Promise<SpillwayProcess> {
    const worker = await this.#spawn('worker', env, tree)
    this.workers.push(worker)
    return worker
  }

  #spawn(role: 'api' | 'worker', env: Record<string, string>, tree?: string): Promise<SpillwayProcess> {
    return spawnSpillway(role, { ...this.env, ...env }, { execArgv: this.#execArgv, tree })
  }

  /** Ends a process, waits until it is gone, and returns how it ended. */
  async kill(process: SpillwayProcess, signal: NodeJS.Signals = 'SIGKILL'): Promise<Exit> {
    process.kill(signal)
    const exit = await process.exited
    this.apis = this.apis.filter((other) => other !== process)
    this.workers = this.workers.filter((other) => other !== process)
    return exit
  }

  /** Kills all processes and starts as many again. */
  async crash(): Promise<void> {
    const [apis, workers] = [this.apis.length, this.workers.length]
    await this.#killAll('SIGKILL')
    await this.start(apis, workers)
  }

  /** Kills its processes: a stop by SIGTERM takes each of them half a second, and is not what most tests are about. */
  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#killAll(signal)
    await this.#clean()
  }

  async #killAll(signal: NodeJS.Signals): Promise<void> {
    await Promise.all([...this.apis, ...this.workers].map((process) => this.kill(process, signal)))
  }
}

export interface InProcess {
  readonly url: string
  readonly client: Client
  stop(): Promise<void>
}

/** On files of its own, or on the shared servers (servers.ts). Stack (stack.ts) has servers of its own. */
export async function boot(setUp: SetUp, options: BootOptions = {}): Promise<Spillway> {
  const { env, apis = 1, workers = 2, intervals, tree } = options
  const { urls, clean } = setUp === 'embedded' ? await onFiles() : await onServers()
  return await new Spillway(setUp, { ...urls, ...env }, { intervals, tree, clean }).start(apis, workers)
}

const sharedSystems = new Map<SetUp, Promise<Spillway>>()
afterAll(async () => {
  const all = [...sharedSystems.values()]
  sharedSystems.clear()
  await Promise.allSettled(all.map(async (system) => (await system).stop()))
})

/** One for the tests of a file that neither stop it nor depend on what else is in it; it has one worker, and ends with the file. */
export async function shared(setUp: SetUp): Promise<Spillway> {
  const system = sharedSystems.get(setUp) ?? boot(setUp, { workers: 1 })
  sharedSystems.set(setUp, system)
  return await system
}

/** An embedded API in the process of the test, where a test passes a log, or models of its own. */
export async function bootInProcess(
  env: Record<string, string> = {},
  log: Log = quiet(),
  given?: Given,
): Promise<InProcess> {
  const [{ readConfig }, { startApi }, ours] = await Promise.all([
    import('../../src/config.ts'),
    import('../../src/start.ts'),
    import('../../src/models/index.ts'),
  ])
  const { urls, clean } = await onFiles()
  const { url, close } = await startApi(readConfig({ PORT: '0', ...urls, ...env }, {}), given ?? ours, log)
  const stop = async () => {
    await close()
    await clean()
  }
  return { url, client: client(url), stop }
}

async function onFiles() {
  const dir = await temporary('spillway-boot-')
  const urls = { DATABASE_URL: `file:${dir}/data/spillway.db`, QUEUE_URL: `file:${dir}/data/queue.db` }
  return { urls, clean: () => rm(dir, { recursive: true, force: true }) }
}

async function onServers() {
  const database = await freshDatabase()
  const urls = { DATABASE_URL: database.url, QUEUE_URL: freshRedisUrl(), CACHE_URL: freshRedisUrl() }
  return { urls, clean: () => database.drop() }
}

export const unique = () => randomBytes(6).toString('hex')
