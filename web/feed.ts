/**
 * The live feed: every saved row of the chosen model, in the order it came. The place in the log is kept for the session, one for each model,
 * so that a page that was loaded anew or showed another model goes on from there; the client does so after a cut or a pause.
 */
import type { Follow, FollowSnapshot, SpillwayError } from '../client/index.ts'
import { access, granted, refused } from './access.ts'
import { ask, clientOf, problemOf, textOf, unreachable } from './client.ts'
import { count } from './format.ts'
import {
  chosen,
  type Excerpt,
  excerptOfRow,
  type Model,
  onChosen,
  operationsOf,
  type Row,
  type Values,
} from './models.ts'
import { say } from './say.ts'
import { makeStore } from './store.ts'

export const keptRows = 10_000
const page = 100
const hiddenMs = 60_000
/** Nothing came for so long: nothing more was missed. */
const caughtUpMs = 400
const keyOf = (model: Model) => `spillway.cursor.${model.name}`

export const feed = makeStore({
  /** Newest first. */
  rows: [] as readonly Excerpt[],
  /** While the list is held: how many rows came since; undefined: it is not held. */
  newer: undefined as number | undefined,
  /** The values that the rows are narrowed to. */
  filter: undefined as Values | undefined,
  state: 'connecting' as 'connecting' | 'live' | 'catching up' | 'refused' | 'signed out' | 'lost' | 'paused',
  /** What came at once after the page was away; -1: the place was lost, and the list was read anew. */
  caughtUp: 0,
  hasOlder: false,
  loadingOlder: false,
  problem: '',
})

const watchers = new Set<(rows: readonly Excerpt[]) => void>()
/** The one whose rows are here. */
let model: Model | undefined
let follow: Follow<Excerpt> | undefined
/** Ends the subscription to `follow`; undefined: there is none. */
let stop: (() => void) | undefined
let isPaused = false
/** The newest row that is shown while the list is held, or '' for none; undefined: it is not held. */
let heldFrom: string | undefined
/** Rows of a page, and those that the watchers have been called with. */
const noted = new WeakSet<Excerpt>()
/** The stream goes on from the page that was just read: there was nothing to miss. */
let isFresh = false
let isLive = false
let catching: ReturnType<typeof setTimeout> | undefined
let missed: number | undefined = 0

/** Calls back with the rows of each event as it comes. */
export function onSaved(watcher: (rows: readonly Excerpt[]) => void): void {
  watchers.add(watcher)
}

export function watchFeed(): void {
  setInterval(keepCursor, 1_000)
  addEventListener('pagehide', keepCursor)
  onChosen(() => showModel())
  access.follow(update)
  pauseWhileHidden()
}

/** The rows of the chosen model, or some of them, in the place of those that are here. */
function showModel(filter?: Values): void {
  leave()
  heldFrom = undefined
  const shown = chosen()
  if (!shown) return
  model = shown
  follow = clientOf(shown.name).follow({
    first: page,
    keep: keptRows,
    excerpt: (row) => excerptOfRow(shown, row as Row) as never,
    // The place of a narrowed feed is behind rows that it did not show.
    ...(filter ? { by: filter } : { from: sessionStorage.getItem(keyOf(shown)) ?? undefined }),
  })
  missed = 0
  feed.set({
    rows: [],
    newer: undefined,
    filter,
    state: 'connecting',
    caughtUp: 0,
    hasOlder: false,
    loadingOlder: false,
    problem: '',
  })
  update()
}

/** Only the rows with these values; undefined: all. */
export function narrow(filter: Values | undefined): void {
  if (filter || feed.get().filter) showModel(filter)
}

/** Ends the feed, and remembers its place. */
function leave(): void {
  keepCursor()
  cut()
  follow?.close()
  follow = undefined
}

/** What the session remembers of the feeds is forgotten, and nothing more is remembered. */
export function forgetFeed(): void {
  leave()
  model = undefined
}

/** Holds the list as it is, and shows what came meanwhile. The feed goes on: what comes is counted. */
export function hold(isHeld: boolean): void {
  heldFrom = isHeld ? (feed.get().rows[0]?.id ?? '') : undefined
  const { rows = [] } = follow?.getSnapshot() ?? {}
  feed.patch(shownOf(rows))
}

function shownOf(rows: readonly Excerpt[]): { rows: readonly Excerpt[]; newer: number | undefined } {
  if (heldFrom === undefined) return { rows, newer: undefined }
  const newer = heldFrom === '' ? rows.length : rows.findIndex(({ id }) => id === heldFrom)
  // So many came that the list has lost the row.
  return newer < 0 ? { rows: feed.get().rows, newer: rows.length } : { rows: rows.slice(newer), newer }
}

/** The whole row; null: there is none any more. */
export async function readRow({ id, row }: Excerpt): Promise<Row | null> {
  return row ?? (model ? (await ask(operationsOf(model).row, 'read', { id })).row : null)
}

/** Follows as long as the token may read and somebody looks. */
function update(): void {
  const { may, problem } = access.get()
  const isWanted = may.read && !isPaused
  if (!may.read && problem && feed.get().state !== 'signed out') feed.patch({ state: 'signed out', problem: '' })
  if (!isWanted) cut()
  else if (!stop) stop = follow?.subscribe(show)
}

function cut(): void {
  stop?.()
  stop = undefined
  rest()
}

function rest(): void {
  isLive = false
  clearTimeout(catching)
}

/** Another token: begin again with it. What another one allowed to see is gone. */
export function reconnect(): void {
  showModel()
}

function show(now: FollowSnapshot<Excerpt>): void {
  const { rows, state, problem, cursor, hasOlder } = now
  if (state === 'reading' && cursor === undefined) isFresh = true
  feed.patch({ ...shownOf(rows), hasOlder: hasOlder && rows.length > 0 })
  const before = missed
  missed = now.missed
  if (missed === undefined && before !== undefined) {
    feed.patch({ caughtUp: -1 })
    say('Too many rows were missed: the list is read again.')
  }
  const fresh = eventsOf(rows, state === 'live')
  if (state === 'live') catchUp(fresh.length > 0, missed !== before)
  else rest()
  if (problem) lose(problem)
  if (fresh.length > 0) for (const watcher of watchers) watcher(fresh)
}

/** Those on top that are new; those of a page are not. */
function eventsOf(rows: readonly Excerpt[], isLive: boolean): readonly Excerpt[] {
  let end = 0
  for (; end < rows.length && !noted.has(rows[end]!); end++) noted.add(rows[end]!)
  return isLive ? rows.slice(0, end) : []
}

/** Where it goes on from an earlier stream, what was saved before it began comes first. `isMore`: of that, more came. */
function catchUp(hasCome: boolean, isMore: boolean): void {
  const isCatching = isLive ? feed.get().state === 'catching up' : !isFresh
  if (!isLive) {
    isLive = true
    isFresh = false
    granted('read')
    feed.patch({ state: 'live', problem: '', ...(isCatching && { state: 'catching up', caughtUp: 0 }) })
  }
  if (!isCatching) {
    // It was slow to come.
    if (isMore && missed) feed.patch({ caughtUp: missed })
    return
  }
  clearTimeout(catching)
  if (hasCome && !isMore) caughtUp()
  else catching = setTimeout(caughtUp, caughtUpMs)
}

function caughtUp(): void {
  feed.patch({ state: 'live', ...(missed && { caughtUp: missed }) })
  if (missed) say(`Caught up ${count(missed)} missed.`)
}

function lose(problem: SpillwayError): void {
  isFresh = false
  refused('read', problem)
  const { may } = access.get()
  const state = problem.code === 'FORBIDDEN' ? 'refused' : may.read ? 'lost' : 'signed out'
  // A refusal of the token is shown beside the token.
  feed.patch({ state, problem: unreachable(problem) || !may.read ? '' : problem.message })
}

export async function loadOlder(): Promise<void> {
  const mine = follow
  if (!mine || feed.get().loadingOlder) return
  feed.patch({ loadingOlder: true, problem: '' })
  let problem = ''
  try {
    await mine.loadOlder()
  } catch (error) {
    problem = textOf(problemOf(error))
  }
  if (follow === mine) feed.patch({ loadingOlder: false, problem })
}

function keepCursor(): void {
  const { cursor } = follow?.getSnapshot() ?? {}
  if (model && cursor && !feed.get().filter) sessionStorage.setItem(keyOf(model), cursor)
}

/** A tab that nobody looks at gives its connection back, for there are six for all tabs together; it catches up when it is shown. */
function pauseWhileHidden(): void {
  let timer: ReturnType<typeof setTimeout> | undefined
  document.addEventListener('visibilitychange', () => {
    clearTimeout(timer)
    if (document.hidden) {
      timer = setTimeout(() => {
        isPaused = true
        feed.patch({ state: 'paused' })
        update()
      }, hiddenMs)
    } else if (isPaused) {
      isPaused = false
      feed.patch({ state: 'connecting' })
      update()
    } else if (feed.get().state === 'lost') {
      cut()
      update()
    }
  })
}
