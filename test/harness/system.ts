/** A whole Spillway as its users run it: real processes, a store, a queue and a cache; embedded, or on Redis and MariaDB. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freshDatabase, freshRedisUrl } from './fresh.ts'
import { type Intervals, withIntervals } from './intervals.ts'
import { type SpillwayProcess, spawnSpillway } from './process.ts'

export type SetUp = 'embedded' | 'redis + mariadb'
export const setUps: SetUp[] = ['embedded', 'redis + mariadb']

export interface GraphQLAnswer {
  status: number
  headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: what a test expects of an answer it says by its assertions.
  body: any
}

export class System {
  readonly env: Record<string, string>
  readonly #setUp: SetUp
  readonly #clean: () => Promise<void>
  api!: SpillwayProcess
  workers: SpillwayProcess[] = []
  #execArgv: string[] = []

  private constructor(setUp: SetUp, env: Record<string, string>, clean: () => Promise<void>) {
    this.#setUp = setUp
    this.env = env
    this.#clean = clean
  }

  static async start(
    setUp: SetUp,
    env: Record<string, string> = {},
    workers = 2,
    intervals: Intervals = {},
  ): Promise<System> {
    let system: System
    if (setUp === 'embedded') {
      const dir = await mkdtemp(join(tmpdir(), 'spillway-e2e-'))
      const urls = { DATABASE_URL: `file:${dir}/data/spillway.db`, QUEUE_URL: `file:${dir}/data/queue.db` }
      system = new System(setUp, { ...urls, ...env }, () => rm(dir, { recursive: true, force: true }))
    } else {
      const database = await freshDatabase()
      const redis = freshRedisUrl()
      const urls = { DATABASE_URL: database.url, QUEUE_URL: redis, CACHE_URL: freshRedisUrl() }
      system = new System(setUp, { ...urls, ...env }, () => database.drop())
    }
    system.#execArgv = withIntervals(intervals)
    await Promise.all([
      system.startApi(),
      ...Array.from({ length: setUp === 'embedded' ? 0 : workers }, () => system.startWorker()),
    ])
    return system
  }

  async startApi(): Promise<void> {
    this.api = await spawnSpillway('api', { PORT: '0', ...this.env }, { execArgv: this.#execArgv })
  }

  async startWorker(): Promise<void> {
    this.workers.push(await spawnSpillway('worker', this.env, { execArgv: this.#execArgv }))
  }

  /** Kills everything, worker and API, and starts it again. */
  async crash(): Promise<void> {
    const workers = this.workers.splice(0)
    for (const process of [this.api, ...workers]) process.kill('SIGKILL')
    await Promise.all([this.api, ...workers].map(({ exited }) => exited))
    await Promise.all([this.startApi(), ...workers.map(() => this.startWorker())])
  }

  get url(): string {
    return this.api.url!
  }

  get embedded(): boolean {
    return this.#setUp === 'embedded'
  }

  async graphql(query: string, variables: Record<string, unknown> = {}, url = this.url): Promise<GraphQLAnswer> {
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/graphql-response+json' },
      body: JSON.stringify({ query, variables }),
    })
    return { status: response.status, headers: response.headers, body: await response.json() }
  }

  /** Every content there is, newest first, page by page. */
  async contents(): Promise<{ id: string; content: string; createdAt: string; savedAt: string }[]> {
    const all = []
    let after: string | null = null
    do {
      const { body }: GraphQLAnswer = await this.graphql(
        'query ($after: String) { contents(first: 100, after: $after) { edges { node { id content createdAt savedAt } } pageInfo { endCursor hasNextPage } } }',
        { after },
      )
      if (body.errors) throw new Error(JSON.stringify(body.errors))
      const { edges, pageInfo } = body.data.contents
      all.push(...edges.map((edge: { node: never }) => edge.node))
      after = pageInfo.hasNextPage ? pageInfo.endCursor : null
    } while (after !== null)
    return all
  }

  async depth(): Promise<number> {
    return (await this.graphql('{ queue { depth } }')).body.data?.queue.depth
  }

  async stop(): Promise<void> {
    const processes = [this.api, ...this.workers]
    for (const process of processes) process.kill('SIGTERM')
    await Promise.all(processes.map(({ exited }) => exited))
    await this.#clean()
  }
}

export const unique = () => randomBytes(6).toString('hex')
