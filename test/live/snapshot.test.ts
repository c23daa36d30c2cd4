/**
 * P11: a subscription from a page's savedCursor misses nothing that the page lacks. A thousand pages, of two models, narrowed and not, in
 * each way that a client can ask for one, are each followed from their cursors at another process while saves go on and Redis, workers and
 * API processes are killed. SEED=… repeats a run.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { Json } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { type Key, type Page, PageReader, pageWays } from '../harness/pages.ts'
import { type Random, seeded } from '../harness/random.ts'
import { Stack } from '../harness/stack.ts'
import { cursorNow, type Feed, Subscriber, wires } from '../harness/subscriber.ts'
import type { Tree } from '../harness/tree.ts'
import { treeWithComments } from '../models/comments.ts'

/** A page is followed until so many events have come; those behind them are the ones that one subscriber of each list has seen. */
const followed = 1
/** Clients that read a page, follow it, and read the next one. */
const readers = 16

let tree: Tree
let stack: Stack | undefined
beforeAll(async () => {
  tree = await treeWithComments()
}, 180_000)
afterAll(() => tree?.[Symbol.asyncDispose]())
afterEach(async () => {
  await stack?.stop()
  stack = undefined
})

const env = { AUTH_DEV_CLAIMS: '{"sub":"dev"}' }

test('P11: pages of two API processes, each followed from its savedCursor while Redis and workers are killed, miss no row', async () => {
  stack = await Stack.start({ apis: 2, workers: 1, tree: tree.path, env, intervals: { reclaimMs: 2_000 } })
  const { redis } = stack
  const killRedis = async () => {
    await redis.stop('SIGKILL')
    await redis.restart()
  }
  const killWorker = async () => {
    await stack!.kill(stack!.workers[0]!)
    await stack!.startWorker()
  }
  await missNothing(stack, seeded(), 1_000, [killRedis, killWorker, killRedis])
}, 180_000)

test('P11: pages of an embedded Spillway that is killed and started again, each followed from its savedCursor, miss no row', async () => {
  stack = await Stack.start({ embedded: true, tree: tree.path, env })
  const killApi = async () => {
    await stack!.kill(stack!.apis[0]!)
    await stack!.startApi()
  }
  await missNothing(stack, seeded(), 300, [killApi, killApi])
}, 120_000)

const feeds: Record<List, Feed> = {
  contents: {
    query: 'subscription ($after: String) { saved(after: $after) { cursor content { id } } }',
    read: ({ saved }) => ({ cursor: saved.cursor, id: saved.content.id }),
  },
  comments: commentFeed(),
}

function commentFeed(postId?: string): Feed {
  const narrowing = postId === undefined ? '' : `postId: "${postId}", `
  return {
    query: `subscription ($after: String) { commentSaved(${narrowing}after: $after) { cursor comment { id } } }`,
    read: ({ commentSaved }) => ({ cursor: commentSaved.cursor, id: commentSaved.comment.id }),
  }
}

test('P11: an API process that is started while Redis is unavailable serves pages, and gives them cursors when Redis is back', async () => {
  stack = await Stack.start({ apis: 0, workers: 0 })
  await stack.redis.stop('SIGKILL')
  const { client, url } = await stack.startApi()
  const rest = async () => await (await fetch(url!)).json()
  for (let i = 0; i < 3; i++) {
    expect((await client.graphql('{ contents { edges { cursor } } }')).body).toEqual({
      data: { contents: { edges: [] } },
    })
    expect(await rest()).toEqual({ results: [], next: null, saved_cursor: null })
  }
  const { data, errors } = await client.graphql('{ contents { savedCursor } node(id: "") { id } }')
  expect(data).toEqual({ contents: null, node: null })
  const codes = errors.map(({ path, extensions }: Json) => [path[0], extensions.code]).sort()
  expect(codes).toEqual([
    ['contents', 'QUEUE_UNAVAILABLE'],
    ['node', 'BAD_USER_INPUT'],
  ])
  await stack.redis.restart()
  const { savedCursor } = await holds(async () => {
    const answer = await client.graphql('{ contents { savedCursor } }')
    expect(answer.errors).toBeUndefined()
    return answer.data.contents
  })
  expect(await rest()).toEqual({ results: [], next: null, saved_cursor: savedCursor })
  await stack.startWorker()
  const id = randomUUID()
  await stack.save(id, 'the first one')
  const subscriber = new Subscriber('SSE', savedCursor, () => url, feeds.contents).start()
  await holds(() => expect([...subscriber.ids]).toEqual([id]))
  await subscriber.stop()
})

type List = 'contents' | 'comments'
const lists: List[] = ['contents', 'comments']

/** A page, and what came from its cursor. */
interface Followed {
  list: List
  postId: string | undefined
  first: number
  page: Page
  /** How many rows of the list had been sent when the page had come. */
  sent: number
  /** "cursor id" of the first events behind it. */
  next: readonly string[]
  what: string
}

/** The saves and what was seen of them. */
interface Run {
  stack: Stack
  random: Random
  posts: readonly string[]
  /** Of comments: id -> post, in the order in which they were sent. */
  sent: Map<string, string>
  pages: Followed[]
  problems: string[]
  where: () => string | undefined
}

async function missNothing(stack: Stack, random: Random, goal: number, faults: (() => Promise<void>)[]) {
  console.log(`SEED=${random.seed}`)
  const where = () => (stack.apis.length > 0 ? random.pick(stack.apis).url : undefined)
  const posts = [randomUUID(), randomUUID(), randomUUID()]
  const run: Run = { stack, random, posts, sent: new Map(), pages: [], problems: [], where }
  const { pages, problems } = run
  for (const id of posts) await post(run, 'posts', { id, title: 'a post' })
  const start = await cursorNow(stack.apis[0]!.url!)
  const recorders = lists.map((list) => new Subscriber('SSE', start, where, feeds[list]).start())
  const over = new AbortController()
  stack.write(3)
  const writing = [1, 2].map(() => writeComments(run, over.signal))
  const reading = Array.from({ length: readers }, () => readPages(run, goal))
  for (const [i, fault] of faults.entries()) {
    const due = (goal * (i + 1)) / (faults.length + 1)
    await holds(() => expect(pages.length).toBeGreaterThan(due), { timeoutMs: 30_000, progress: () => pages.length })
    await fault()
  }
  await Promise.all(reading)
  over.abort()
  await Promise.all([...writing, stack.stopWriting()])
  await stack.drained()

  let lacking = 0
  for (const [i, list] of lists.entries()) {
    const rows = await crawl(stack, list)
    const { ids, seen, faults } = recorders[i]!
    await holds(() => expect(rows.filter(({ id }) => !ids.has(id))).toEqual([]), {
      timeoutMs: 30_000,
      progress: () => seen.length,
    })
    await recorders[i]!.stop()
    expect(faults).toEqual([])
    for (const postId of list === 'contents' ? [undefined] : [undefined, ...posts]) {
      const isOf = (id: string) => postId === undefined || run.sent.get(id) === postId
      const whole: Whole = {
        rows: rows.filter(({ id }) => isOf(id)),
        events: seen.filter((event) => isOf(idOf(event))),
        sent: [...(list === 'contents' ? stack.sent : run.sent).keys()],
      }
      for (const asked of pages)
        if (asked.list === list && asked.postId === postId) lacking += check(asked, whole, problems)
    }
  }
  expect(problems.slice(0, 5)).toEqual([])
  expect(lacking, 'pages that lack nothing prove nothing').toBeGreaterThan(goal)
  console.log(`${pages.length} pages, ${stack.sent.size + run.sent.size} saves, ${lacking} rows that pages lacked`)
}

/** Saves comments without pause, each until it is acknowledged. */
async function writeComments(run: Run, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const [id, postId] = [randomUUID(), run.random.pick(run.posts)]
    run.sent.set(id, postId)
    await post(run, 'comments', { id, postId, body: 'a comment' })
  }
}

async function post({ where }: Run, path: string, row: Json): Promise<void> {
  for (;;) {
    const request = { method: 'POST', body: JSON.stringify(row), signal: AbortSignal.timeout(5_000) }
    const response = await fetch(`${where()}/${path}`, request).catch(() => undefined)
    await response?.text().catch(() => {})
    if (response?.status === 202) return
    if (response) expect(response.status).toBe(503)
    await sleep(20)
  }
}

/** Reads pages and follows each one, until there are enough. */
async function readPages(run: Run, goal: number): Promise<void> {
  const { random, pages, problems, where, stack } = run
  const pageReaders = new Map<string, PageReader>()
  while (pages.length < goal) {
    const postId = random.whole(2) === 0 ? random.pick(run.posts) : undefined
    const list = postId !== undefined || random.whole(3) === 0 ? 'comments' : 'contents'
    const first = random.pick([1, 5, 20])
    const args = { first, ...(postId !== undefined && { postId }) }
    const way = random.pick(pageWays)
    const what = `${way} ${list} ${JSON.stringify(args)}`
    const url = where() ?? ''
    const reader = pageReaders.get(url) ?? new PageReader(url)
    pageReaders.set(url, reader)
    try {
      const page = await reader.read(way, { list, path: list === 'contents' ? '/' : '/comments', args })
      const sent = (list === 'contents' ? stack.sent : run.sent).size
      const feed = postId === undefined ? feeds[list] : commentFeed(postId)
      const next = await follow(run, page.savedCursor!, feed)
      pages.push({ list, postId, first, page, sent, next, what })
    } catch (error) {
      // A process that was killed answers nothing; whatever answers must give the page.
      const { message } = error as Error
      if (/^\[|^\d{3} |^no /.test(message)) problems.push(`${what}: ${message}`)
      await sleep(20)
    }
  }
  for (const reader of pageReaders.values()) await reader.close()
}

/** The first events behind a cursor, as another subscriber gets them. */
async function follow({ random, where }: Run, cursor: string, feed: Feed): Promise<string[]> {
  const subscriber = new Subscriber(random.pick(wires), cursor, where, feed).start()
  try {
    await holds(() => expect(subscriber.seen.length >= followed || subscriber.faults.length > 0).toBe(true), {
      timeoutMs: 30_000,
    })
  } catch {
    throw new Error(`no ${followed} events came from ${cursor} on`)
  } finally {
    await subscriber.stop()
  }
  if (subscriber.faults.length > 0) throw new Error(`no events came from ${cursor} on: ${subscriber.faults[0]}`)
  return subscriber.seen.slice(0, followed)
}

/** All of a list with a narrowing, in the end. */
interface Whole {
  rows: readonly Key[]
  /** "cursor id", in the order of the log. */
  events: readonly string[]
  /** The ids of the list, narrowed or not, in the order in which they were sent. */
  sent: readonly string[]
}

/** Returns how many rows the page lacked of those that are newer than its oldest one. */
function check({ page, sent, next, first, what }: Followed, whole: Whole, problems: string[]): number {
  const { keys, savedCursor } = page
  const behind = whole.events.slice(whole.events.findIndex((event) => cursorOf(event) > savedCursor!))
  if (next.join() !== behind.slice(0, followed).join())
    problems.push(`${what}: ${savedCursor} was followed by ${next}, not by ${behind.slice(0, followed)}`)
  const known = new Set([...keys.map(({ id }) => id), ...behind.map(idOf)])
  const oldest = keys.length === first ? keys.at(-1) : undefined
  const newer = whole.rows.filter((row) => !oldest || !isBehind(row, oldest)).map(({ id }) => id)
  const later = new Set(whole.sent.slice(sent))
  const due = [...newer, ...whole.rows.map(({ id }) => id).filter((id) => later.has(id))]
  const missed = due.find((id) => !known.has(id))
  if (missed !== undefined)
    problems.push(`${what}: ${missed} is neither in the page nor behind its savedCursor ${savedCursor}`)
  return newer.length - keys.length
}

const cursorOf = (event: string) => event.slice(0, event.indexOf(' '))
const idOf = (event: string) => event.slice(event.indexOf(' ') + 1)
const isBehind = (row: Key, other: Key) =>
  row.createdAt < other.createdAt || (row.createdAt === other.createdAt && row.id < other.id)

/** All rows of a list, newest first. */
async function crawl(stack: Stack, list: List): Promise<Key[]> {
  const rows: Key[] = []
  for (let after: string | null = null; ; ) {
    const query = `query ($after: String) { ${list}(first: 100, after: $after) { edges { node { id createdAt } } pageInfo { endCursor hasNextPage } } }`
    const { data }: { data: Json } = await stack.client.graphql(query, { after })
    const { edges, pageInfo } = data[list]
    rows.push(...edges.map((edge: { node: Key }) => edge.node))
    if (!pageInfo.hasNextPage) return rows
    after = pageInfo.endCursor
  }
}
