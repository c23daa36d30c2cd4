/**
 * spillway-client under faults: what its writers were acknowledged is what the database has, and what every follower was given, once each.
 * The clients are behind two proxies, as two load balancers.
 */
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createClient } from '../../client/index.ts'
import { watch } from '../../client/states.ts'
import { holds } from '../harness/eventually.ts'
import { query } from '../harness/mariadb.ts'
import type { SpillwayProcess } from '../harness/process.ts'
import { startProxy, type TestProxy } from '../harness/proxy.ts'
import { Stack } from '../harness/stack.ts'
import { cursorNow, type Feed, Subscriber } from '../harness/subscriber.ts'
import type { Tree } from '../harness/tree.ts'
import { treeWithComments } from '../models/comments.ts'
import { type Comment, Follower, Writer } from './clients.ts'
import { record } from './table.ts'

const unknown: string[] = []
let tree: Tree
beforeAll(async () => {
  watch.change = (_, from, to, isListed) => {
    if (!isListed) unknown.push(`${from} to ${to}`)
  }
  tree = await treeWithComments()
}, 180_000)
afterAll(() => tree?.[Symbol.asyncDispose]())

const everyComment: Feed = {
  query: 'subscription ($after: String) { commentSaved(after: $after) { cursor comment { id } } }',
  read: ({ commentSaved }) => ({ cursor: commentSaved.cursor, id: commentSaved.comment.id }),
}

/** A busy machine, and back-off of up to 5 s. */
const patience = { timeoutMs: 60_000 }

class Run {
  readonly stack: Stack
  readonly proxies: TestProxy[]
  /** Behind each proxy. */
  readonly apis: SpillwayProcess[]
  readonly writers: Writer[]
  readonly followers: Follower[]
  /** Reads what the events log has: each row once at least, and again where a worker cannot know that it has published it. */
  readonly log: Subscriber
  /** How often connections in use were cut. */
  cuts = 0

  private constructor(stack: Stack, proxies: TestProxy[], postIds: readonly [string, string], cursor: string) {
    this.stack = stack
    this.proxies = proxies
    this.apis = [...stack.apis]
    this.log = new Subscriber('SSE', cursor, () => this.apis[0]!.url, everyComment).start()
    const urls = proxies.map(({ port }) => `http://127.0.0.1:${port}`)
    const [first, last] = [urls[0]!, urls.at(-1)!]
    this.followers = [
      new Follower(first, { kind: 'store' }),
      new Follower(last, { kind: 'iterator' }),
      new Follower(last, { kind: 'store', postId: postIds[0] }),
      new Follower(first, { kind: 'iterator', postId: postIds[0] }),
    ]
    this.writers = [first, last, first, last].map((url) => new Writer(url))
    for (const writer of this.writers) writer.start(postIds)
  }

  static async start(stack: Stack): Promise<Run> {
    const proxies = await Promise.all(stack.apis.map(({ url }) => startProxy(url!)))
    const client = createClient(stack.url)
    const posts = ['one', 'two'].map((title) => client.post!.save({ title }))
    await Promise.all(posts.map((post) => post.saved()))
    client.$close()
    return new Run(stack, proxies, posts.map(({ id }) => id) as [string, string], await cursorNow(stack.url))
  }

  get acknowledged(): number {
    return this.writers.reduce((sum, writer) => sum + writer.acknowledged, 0)
  }

  get delivered(): number {
    return this.followers.reduce((sum, { seen }) => sum + seen.size, 0)
  }

  /** Until more saves were acknowledged, and rows came to followers; an iterator behind each proxy is live. */
  async more(saves = 12): Promise<void> {
    const { acknowledged, delivered } = this
    await holds(
      () => {
        // The others wait as long as their back-off says.
        for (const one of this.followers) if (one.kind === 'iterator') one.wake()
        expect(this.acknowledged).toBeGreaterThanOrEqual(acknowledged + saves)
        expect(this.delivered).toBeGreaterThan(delivered)
        for (const one of this.followers) if (one.kind === 'iterator') expect(one.isLive).toBe(true)
      },
      { ...patience, progress: () => this.acknowledged + this.delivered },
    )
  }

  wake(): void {
    for (const one of [...this.writers, ...this.followers]) one.wake()
  }

  /** Cuts the connections of a proxy, again and again. */
  async cut(times: number): Promise<void> {
    for (let i = 0; i < times; i++) {
      this.proxies[i % this.proxies.length]!.disconnect()
      this.cuts += 1
      await this.more()
    }
  }

  /** Keeps back replies to saves and to requests for pages and streams, or the second half of them. */
  async loseReplies(times: number, half: boolean): Promise<void> {
    for (const proxy of this.proxies) {
      const before = proxy.kept()
      proxy.set({ kind: 'cut-before-reply', times, half, when: (request) => request.includes('POST /graphql') })
      await holds(() => expect(proxy.kept()).toBe(before + times), patience)
      this.cuts += times
    }
    await this.more()
  }

  async trickle(): Promise<void> {
    for (const proxy of this.proxies) {
      proxy.set({ kind: 'trickle', bytes: 7 })
      // The streams that are open are slow from now on, and those that are opened.
      proxy.disconnect()
      this.cuts += 1
    }
    await this.more(24)
    for (const proxy of this.proxies) proxy.set('pass')
  }

  async reload(): Promise<void> {
    for (const page of [...this.writers, ...this.followers]) {
      page.reload()
      await this.more(3)
    }
  }

  /** An API ends; another one takes its place behind the proxy, or is there before it ends. */
  async exchange(i: number, signal: NodeJS.Signals, isBefore: boolean): Promise<void> {
    const old = this.apis[i]!
    const start = async () => {
      this.apis[i] = await this.stack.startApi()
      this.proxies[i]!.retarget(this.apis[i].url!)
    }
    if (isBefore) await start()
    await this.stack.kill(old, signal)
    this.cuts += 1
    if (!isBefore) await start()
    this.wake()
    await this.more()
  }

  async restartRedis(): Promise<void> {
    await this.stack.redis.restart()
    await this.more()
  }

  async finish(fault: string): Promise<void> {
    for (const writer of this.writers) await writer.stop()
    const acknowledged = () => this.acknowledged
    await holds(() => expect(this.writers.map(({ left }) => left)).toEqual(this.writers.map(() => null)), {
      ...patience,
      progress: acknowledged,
    })
    await this.stack.drained()
    const sent = new Map(this.writers.flatMap((writer) => [...writer.sent]))
    this.wake()
    const missedBy = ({ postId, seen }: Follower) =>
      [...sent.values()].filter((row) => (!postId || row.postId === postId) && !seen.has(row.id))
    await holds(
      () =>
        expect(this.followers.map((one) => [one.name, missedBy(one).length, one.problem])).toEqual(
          this.followers.map(({ name }) => [name, 0, undefined]),
        ),
      { progress: () => this.delivered },
    ).catch(() => {})
    await holds(() => expect([...sent.keys()].filter((id) => !this.log.ids.has(id))).toEqual([]))
    expect(this.log.faults).toEqual([])
    // A page that was reloaded does not know what it was given before.
    const doubledBy = ({ doubled }: Follower) => doubled.filter((id) => !this.#isPublishedAgain(id))
    const rows = await rowsOf(this.stack)
    const ids = [...sent.keys()]
    const same = (id: string) => JSON.stringify(rows.get(id)) === JSON.stringify(sent.get(id))
    record('G1', this.stack.embedded ? 'embedded' : 'redis + mariadb', {
      fault: `${fault}, ${this.cuts} cuts`,
      acknowledged: this.acknowledged,
      rows: ids.filter(same).length,
      deadLetters: (await this.stack.client.deadLetters()).length,
      lost: ids.filter((id) => !rows.has(id)).length,
      doubled: this.followers.flatMap(doubledBy).length,
      altered: [...rows.keys()].filter((id) => !same(id)).length,
      unannounced: this.followers.flatMap(missedBy).length,
    })
    for (const one of this.followers) {
      expect(one.problem, one.name).toBeUndefined()
      expect(missedBy(one).length, `rows that the ${one.name} missed`).toBe(0)
      expect(doubledBy(one), `rows that the ${one.name} got twice`).toEqual([])
    }
    expect(rows.size, 'rows').toBe(ids.length)
    expect(ids.filter((id) => !same(id))).toEqual([])
    expect(this.acknowledged).toBe(ids.length)
    expect(unknown, 'events that a state of the client does not list').toEqual([])
  }

  #isPublishedAgain(id: string): boolean {
    return this.log.seen.filter((seen) => seen.endsWith(` ${id}`)).length > 1
  }

  async stop(): Promise<void> {
    for (const one of [...this.writers, ...this.followers]) one.close()
    await this.log.stop()
    for (const writer of this.writers) await writer.stop().catch(() => {})
    for (const proxy of this.proxies) await proxy.close()
    await this.stack.stop()
  }
}

/*T*/
async function rowsOf(stack: Stack): Promise<Map<string, Comment>> {
  const sql = 'SELECT id, postId, body FROM Comment'
  const read = () => {
    const db = new DatabaseSync(stack.database, { readOnly: true })
    const rows = db.prepare(sql).all()
    db.close()
    return rows
  }
  const rows = stack.embedded ? read() : await query(stack.database, sql)
  return new Map(rows.map(({ id, postId, body }) => [id as string, { id, postId, body } as Comment]))
}

const env = { AUTH_DEV_CLAIMS: '{"sub":"dev"}' }

test('G1: clients save and follow through cuts, lost and slow replies, reloads, exchanged APIs and a restarted Redis', async () => {
  const run = await Run.start(await Stack.start({ env, tree: tree.path, apis: 2, workers: 1 }))
  try {
    await run.more()
    await run.cut(16)
    await run.loseReplies(5, false)
    await run.loseReplies(5, true)
    await run.trickle()
    await run.reload()
    await run.exchange(0, 'SIGKILL', false)
    await run.restartRedis()
    await run.exchange(1, 'SIGTERM', true)
    await run.cut(12)
    expect(run.cuts).toBeGreaterThanOrEqual(50)
    await run.finish('clients cut, slowed and reloaded, APIs killed, stopped and exchanged, Redis restarted')
  } finally {
    await run.stop()
  }
}, 300_000)

test('G1: clients of an embedded server save and follow through cuts, lost and slow replies, reloads, and its end', async () => {
  const run = await Run.start(await Stack.start({ env, tree: tree.path, embedded: true }))
  try {
    await run.more()
    await run.cut(24)
    await run.loseReplies(5, false)
    await run.loseReplies(5, true)
    await run.trickle()
    await run.reload()
    await run.exchange(0, 'SIGKILL', false)
    await run.exchange(0, 'SIGTERM', false)
    await run.cut(13)
    expect(run.cuts).toBeGreaterThanOrEqual(50)
    await run.finish('clients cut, slowed and reloaded, the process killed and stopped')
  } finally {
    await run.stop()
  }
}, 300_000)
