/**
 * The live feed: every saved content, in the order it came. Invariant: nothing is missing between the newest row and `tail`; what is
 * behind `tail` comes page by page from `contents`. The place in the log is kept for the session, so that a page that was cut off, slept
 * or was loaded anew goes on from there.
 */
import { access } from './access.ts'
import { ask, follow, pause, Refusal, serverAhead } from './api.ts'
import { count } from './format.ts'
import { Contents, Saved } from './operations.ts'
import { noteWritten } from './queue.ts'
import { say } from './say.ts'
import { makeStore } from './store.ts'

export interface Row {
  id: string
  content: string
  createdAt: string
  savedAt: string
}

/** Where `contents` goes on: behind this row, which is the last one in its order that is here. */
interface Tail extends Pick<Row, 'id' | 'createdAt'> {
  cursor: string
}

const keptRows = 10_000
/** So many rows after the last place to cut at, a new one is asked for. */
const anchorEvery = 2_500
const page = 100
const hiddenMs = 60_000
const key = 'spillway.cursor'

export const feed = makeStore({
  /** Oldest first; shown the other way round. Changed in place: `version` tells. */
  rows: [] as Row[],
  version: 0,
  state: 'connecting' as 'connecting' | 'live' | 'catching up' | 'lost' | 'paused',
  /** What came at once after the page was away; -1: the place was lost, and the list was read anew. */
  caughtUp: 0,
  tail: undefined as Tail | undefined,
  hasOlder: false,
  loadingOlder: false,
  problem: '',
})

/** Which rows are here, as of when. */
const ids = new Map<string, string>()
const watchers = new Set<(rows: readonly Row[]) => void>()
let cursor: string | undefined = sessionStorage.getItem(key) ?? undefined
/** Places to cut at, oldest first. */
const anchors: Tail[] = []
let sinceAnchor = 0
let anchoring = false
let stream = new AbortController()

/** Calls back with the contents of each event as it comes. */
export function onSaved(watcher: (rows: readonly Row[]) => void): void {
  watchers.add(watcher)
}

export async function watchFeed(): Promise<never> {
  setInterval(keepCursor, 1_000)
  addEventListener('pagehide', keepCursor)
  addEventListener('online', () => stream.abort())
  pauseWhileHidden()
  let tries = 0
  for (;;) {
    stream = new AbortController()
    const began = Date.now()
    try {
      if (document.hidden && feed.get().state === 'paused') await pause(2 ** 30, stream.signal)
      else if (!access.get().may.read) await pause(1_000, stream.signal)
      else await follow(Saved, 'read', { after: cursor ?? null }, taker(began), stream.signal)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      if (Date.now() - began > 10_000) tries = 0
      tries += 1
      if (error.code === 'CURSOR_EXPIRED' || error.code === 'BAD_USER_INPUT') {
        cursor = undefined
        await readAnew().catch(() => {})
        feed.patch({ caughtUp: -1 })
        say('Too many rows were missed: the list was read again.')
      } else if (feed.get().state !== 'paused') {
        feed.patch({ state: 'lost' })
        if (!stream.signal.aborted)
          await pause(Math.min(5_000, 250 * 2 ** tries) * (0.5 + Math.random() / 2), stream.signal)
      }
    }
  }
}

/** Takes what a stream brings. What was saved before the stream began, and comes at its beginning, was missed. */
function taker(began: number) {
  const resuming = cursor !== undefined
  const missedUpTo = began + serverAhead()
  let missed = 0
  let done: ReturnType<typeof setTimeout> | undefined
  let catching = resuming
  let first = true
  const caughtUp = () => {
    catching = false
    feed.patch({ state: 'live', ...(missed > 0 ? { caughtUp: missed } : {}) })
    if (missed > 0) say(`Caught up ${count(missed)} missed.`)
  }
  return ({ id, results }: { id: string | undefined; results: { saved: { content: Row; cursor: string } }[] }) => {
    if (id) cursor = id
    if (first) {
      first = false
      feed.patch({ state: catching ? 'catching up' : 'live', caughtUp: 0 })
      // After the subscription has begun, so that nothing falls in between.
      if (feed.get().rows.length === 0) void readAnew().catch(showProblem)
    }
    const rows = results.map(({ saved }) => saved.content)
    if (catching) {
      clearTimeout(done)
      missed += rows.filter(({ savedAt }) => Date.parse(savedAt) <= missedUpTo).length
      const last = rows.at(-1)
      if (last && Date.parse(last.savedAt) > missedUpTo) caughtUp()
      else done = setTimeout(caughtUp, 400)
    }
    if (rows.length > 0) add(rows)
  }
}

function add(rows: readonly Row[]): void {
  let from = 0
  for (let i = 1; i <= rows.length; i++) {
    if (i < rows.length && rows[i]!.savedAt === rows[from]!.savedAt) continue
    noteWritten(Date.parse(rows[from]!.savedAt), i - from)
    from = i
  }
  const { version } = feed.get()
  let kept = feed.get().rows
  for (const row of rows) {
    const known = ids.get(row.id)
    // An event may come twice. One of another time is of another row, that somebody put in the place of the first.
    if (known === row.savedAt) continue
    if (known) kept = kept.filter(({ id }) => id !== row.id)
    ids.set(row.id, row.savedAt)
    kept.push(row)
    sinceAnchor += 1
  }
  feed.patch({ rows: kept, version: version + 1 })
  if (sinceAnchor > anchorEvery) void takeAnchor()
  if (kept.length > keptRows) cut()
  for (const watcher of watchers) watcher(rows)
}

/** Asks where in `contents` the newest row is, to be able to cut there later. */
async function takeAnchor(): Promise<void> {
  if (anchoring) return
  anchoring = true
  try {
    const { contents } = await ask(Contents, 'read', { first: 1 })
    const [edge] = contents.edges
    if (edge) anchors.push({ id: edge.node.id, createdAt: edge.node.createdAt, cursor: edge.cursor })
    sinceAnchor = 0
  } catch {
    // At the next event, then.
  } finally {
    anchoring = false
  }
}

/** Lets go of rows that `contents` can bring again, from the oldest place on that leaves few enough. */
function cut(): void {
  const { rows } = feed.get()
  let kept = rows.slice(-keptRows / 2)
  let tail: Tail | undefined
  while (!tail && anchors.length > 0) {
    const anchor = anchors.shift()!
    const ahead = rows.filter((row) => !isBehind(row, anchor))
    if (ahead.length > keptRows * 0.8) continue
    kept = ahead
    tail = anchor
  }
  ids.clear()
  for (const { id, savedAt } of kept) ids.set(id, savedAt)
  feed.patch({ rows: kept, tail, hasOlder: true })
}

/** In the order of `contents`: newest first by createdAt, then by id. */
function isBehind(row: Row, tail: Pick<Row, 'id' | 'createdAt'>): boolean {
  return row.createdAt < tail.createdAt || (row.createdAt === tail.createdAt && row.id < tail.id)
}

/** The list from the newest page on: at the start, and where what lies between is not known. */
export async function readAnew(): Promise<void> {
  const { contents } = await ask(Contents, 'read', { first: page })
  const nodes = contents.edges.map(({ node }) => node)
  const known = new Set(nodes.map(({ id }) => id))
  const last = contents.edges.at(-1)
  // What came while this was asked stays on top.
  const newer = feed.get().rows.filter((row) => !known.has(row.id) && (!last || !isBehind(row, last.node)))
  const rows = [...nodes.reverse(), ...newer]
  ids.clear()
  for (const { id, savedAt } of rows) ids.set(id, savedAt)
  feed.patch({
    rows,
    version: feed.get().version + 1,
    tail: last && { id: last.node.id, createdAt: last.node.createdAt, cursor: last.cursor },
    hasOlder: contents.pageInfo.hasNextPage,
    problem: '',
  })
}

export async function loadOlder(): Promise<void> {
  const { tail, loadingOlder } = feed.get()
  if (loadingOlder) return
  feed.patch({ loadingOlder: true, problem: '' })
  try {
    if (!tail) return await readAnew()
    const { contents } = await ask(Contents, 'read', { first: page, after: tail.cursor })
    const now = feed.get()
    // It was cut meanwhile: this page is not the next one any more.
    if (now.tail !== tail) return
    const older = contents.edges.map(({ node }) => node).filter(({ id }) => !ids.has(id))
    for (const { id, savedAt } of older) ids.set(id, savedAt)
    const last = contents.edges.at(-1)
    feed.patch({
      rows: [...older.reverse(), ...now.rows],
      version: now.version + 1,
      tail: last ? { id: last.node.id, createdAt: last.node.createdAt, cursor: last.cursor } : tail,
      hasOlder: contents.pageInfo.hasNextPage,
    })
  } catch (error) {
    showProblem(error)
  } finally {
    feed.patch({ loadingOlder: false })
  }
}

function showProblem(error: unknown): void {
  if (!(error instanceof Refusal)) throw error
  feed.patch({ problem: error.message })
}

/** Another token: begin again with it. */
export function reconnect(): void {
  stream.abort()
}

function keepCursor(): void {
  if (cursor) sessionStorage.setItem(key, cursor)
}

/** A tab that nobody looks at gives its connection back, for there are six for all tabs together; it catches up when it is shown. */
function pauseWhileHidden(): void {
  let timer: ReturnType<typeof setTimeout> | undefined
  document.addEventListener('visibilitychange', () => {
    clearTimeout(timer)
    if (document.hidden) {
      timer = setTimeout(() => {
        feed.patch({ state: 'paused' })
        stream.abort()
      }, hiddenMs)
    } else if (feed.get().state === 'paused') {
      feed.patch({ state: 'connecting' })
      stream.abort()
    } else if (feed.get().state === 'lost') stream.abort()
  })
}
