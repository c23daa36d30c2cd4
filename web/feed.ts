/**
 * The live feed: every saved row of the chosen model, in the order it came. Invariant: nothing is missing between the newest row and `tail`;
 * what is behind `tail` comes page by page from the model's list. The place in the log is kept for the session, one for each model, so that
 * a page that was cut off, slept, was loaded anew or showed another model goes on from there.
 */
import { access } from './access.ts'
import { ask, follow, pause, Refusal, serverAhead } from './api.ts'
import { count } from './format.ts'
import { chosen, type Model, models, onChosen, operationsOf, type Row } from './models.ts'
import { noteWritten } from './queue.ts'
import { say } from './say.ts'
import { makeStore } from './store.ts'

/** Where the list goes on: behind this row, which is the last one in its order that is here. */
interface Tail extends Pick<Row, 'id' | 'createdAt'> {
  cursor: string
}

const keptRows = 10_000
/** So many rows after the last place to cut at, a new one is asked for. */
const anchorEvery = 2_500
const page = 100
const hiddenMs = 60_000
const refusedMs = 15_000
const keyOf = (model: Model) => `spillway.cursor.${model.name}`

export const feed = makeStore({
  /** Oldest first; shown the other way round. Changed in place: `version` tells. */
  rows: [] as Row[],
  version: 0,
  state: 'connecting' as 'connecting' | 'live' | 'catching up' | 'refused' | 'lost' | 'paused',
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
/** The one whose rows are here. */
let model: Model | undefined
let cursor: string | undefined
/** Places to cut at, oldest first. */
let anchors: Tail[] = []
let sinceAnchor = 0
let anchoring = false
let stream = new AbortController()

/** Calls back with the rows of each event as it comes. */
export function onSaved(watcher: (rows: readonly Row[]) => void): void {
  watchers.add(watcher)
}

export async function watchFeed(): Promise<never> {
  setInterval(keepCursor, 1_000)
  addEventListener('pagehide', keepCursor)
  addEventListener('online', () => stream.abort())
  onChosen(showModel)
  pauseWhileHidden()
  let tries = 0
  /** The stream goes on from the page that was just read: there was nothing to miss. */
  let fromPage = false
  for (;;) {
    stream = new AbortController()
    const began = Date.now()
    try {
      if (document.hidden && feed.get().state === 'paused') await pause(2 ** 30, stream.signal)
      else if (!model || !access.get().may.read) await pause(1_000, stream.signal)
      else if (cursor === undefined) {
        await readAnew(stream.signal)
        fromPage = true
      } else await follow(operationsOf(model).saved, 'read', { after: cursor }, taker(began, !fromPage), stream.signal)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      fromPage = false
      if (Date.now() - began > 10_000) tries = 0
      tries += 1
      if (error.code === 'CURSOR_EXPIRED' || error.code === 'BAD_USER_INPUT') {
        forgetCursor()
        feed.patch({ caughtUp: -1 })
        say('Too many rows were missed: the list is read again.')
      } else if (error.code === 'FORBIDDEN' && access.get().may.read) {
        feed.patch({ state: 'refused', problem: error.message })
        await pause(refusedMs, stream.signal)
      } else if (feed.get().state !== 'paused') {
        feed.patch({ state: 'lost', problem: error.code === 'UNREACHABLE' ? '' : error.message })
        if (!stream.signal.aborted)
          await pause(Math.min(5_000, 250 * 2 ** tries) * (0.5 + Math.random() / 2), stream.signal)
      }
    }
  }
}

/** Another model: its rows in the place of the last one's. */
function showModel(): void {
  keepCursor()
  model = chosen()
  cursor = (model && sessionStorage.getItem(keyOf(model))) ?? undefined
  anchors = []
  sinceAnchor = 0
  ids.clear()
  feed.patch({
    rows: [],
    version: feed.get().version + 1,
    state: 'connecting',
    caughtUp: 0,
    tail: undefined,
    hasOlder: false,
    loadingOlder: false,
    problem: '',
  })
  stream.abort()
}

/** Takes what a stream brings. Where it goes on from an earlier stream, what was saved before it began was missed. */
function taker(began: number, resuming: boolean) {
  const mine = stream
  const missedUpTo = began + serverAhead()
  let missed = 0
  let done: ReturnType<typeof setTimeout> | undefined
  let catching = resuming
  let first = true
  const caughtUp = () => {
    if (stream !== mine) return
    catching = false
    feed.patch({ state: 'live', ...(missed > 0 ? { caughtUp: missed } : {}) })
    if (missed > 0) say(`Caught up ${count(missed)} missed.`)
  }
  return ({ id, results }: { id: string | undefined; results: { saved: { row: Row; cursor: string } }[] }) => {
    // It brings rows of the model before, or what the next stream brings again.
    if (mine.signal.aborted) return
    if (id) cursor = id
    if (first) {
      first = false
      feed.patch({ state: catching ? 'catching up' : 'live', problem: '', ...(resuming && { caughtUp: 0 }) })
      // After a reload: the stream goes on from before this page.
      if (resuming && feed.get().rows.length === 0) void readAnew().catch(showProblem)
    }
    const rows = results.map(({ saved }) => saved.row)
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
    if (models.get().list.length === 1) noteWritten(Date.parse(rows[from]!.savedAt), i - from)
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

/** A page of the chosen model's list; undefined where another model was chosen meanwhile. */
async function readPage(first: number, { after, signal }: { after?: string; signal?: AbortSignal } = {}) {
  const of = model
  if (!of) return undefined
  const { page } = await ask(operationsOf(of).page, 'read', after === undefined ? { first } : { first, after }, signal)
  return of === model ? page! : undefined
}

/** Asks where in the list the newest row is, to be able to cut there later. */
async function takeAnchor(): Promise<void> {
  if (anchoring) return
  anchoring = true
  try {
    const [edge] = (await readPage(1))?.edges ?? []
    if (edge) anchors.push({ id: edge.node.id, createdAt: edge.node.createdAt, cursor: edge.cursor })
    sinceAnchor = 0
  } catch {
    // At the next event, then.
  } finally {
    anchoring = false
  }
}

/** Lets go of rows that the list can bring again, from the oldest place on that leaves few enough. */
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

/** In the order of lists: newest first by createdAt, then by id. */
function isBehind(row: Row, tail: Pick<Row, 'id' | 'createdAt'>): boolean {
  return row.createdAt < tail.createdAt || (row.createdAt === tail.createdAt && row.id < tail.id)
}

/**
 * The list from the newest page on: at the start, and where what lies between is not known. Without a place in the log, the stream begins
 * where the page says: nothing that the page lacks is missed.
 */
async function readAnew(signal?: AbortSignal): Promise<void> {
  const list = await readPage(page, signal && { signal })
  if (!list) return
  cursor ??= list.savedCursor
  const nodes = list.edges.map(({ node }) => node)
  const known = new Set(nodes.map(({ id }) => id))
  const last = list.edges.at(-1)
  // What came while this was asked stays on top.
  const newer = feed.get().rows.filter((row) => !known.has(row.id) && (!last || !isBehind(row, last.node)))
  const rows = [...nodes.reverse(), ...newer]
  ids.clear()
  for (const { id, savedAt } of rows) ids.set(id, savedAt)
  feed.patch({
    rows,
    version: feed.get().version + 1,
    tail: last && { id: last.node.id, createdAt: last.node.createdAt, cursor: last.cursor },
    hasOlder: list.pageInfo.hasNextPage,
    problem: '',
  })
}

export async function loadOlder(): Promise<void> {
  const { tail, loadingOlder } = feed.get()
  if (loadingOlder) return
  feed.patch({ loadingOlder: true, problem: '' })
  try {
    if (!tail) return await readAnew()
    const list = await readPage(page, { after: tail.cursor })
    const now = feed.get()
    // It was cut meanwhile: this page is not the next one any more.
    if (!list || now.tail !== tail) return
    const older = list.edges.map(({ node }) => node).filter(({ id }) => !ids.has(id))
    for (const { id, savedAt } of older) ids.set(id, savedAt)
    const last = list.edges.at(-1)
    feed.patch({
      rows: [...older.reverse(), ...now.rows],
      version: now.version + 1,
      tail: last ? { id: last.node.id, createdAt: last.node.createdAt, cursor: last.cursor } : tail,
      hasOlder: list.pageInfo.hasNextPage,
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
  if (model && cursor) sessionStorage.setItem(keyOf(model), cursor)
}

function forgetCursor(): void {
  cursor = undefined
  if (model) sessionStorage.removeItem(keyOf(model))
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
