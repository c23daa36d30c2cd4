/**
 * Follows the saved rows of a model: a page of its list, then every row that is saved. Invariants: nothing is missing between the page and
 * the newest row, however often the connection breaks; a row comes once. Where the server no longer has the events since the last row, the
 * list is read again.
 */
import { errorOf, isFinal, SpillwayError } from './error.ts'
import type { AnyRow, Documents, Models } from './models.ts'
import type { Waker } from './pause.ts'
import { followStates, next, type StateOf } from './states.ts'
import { makeStore, type Store } from './store.ts'
import type { Transport } from './transport.ts'

export interface FollowOptions<By = Readonly<Record<string, unknown>>> {
  /** Only the rows with these values; the model's `by` has the sets of columns. */
  by?: By
  /** Rows of the first page: 1 to 100, 50 by default. */
  first?: number
  /** The `cursor` of an earlier follow: iterators begin with what was saved after it. The store has a page, too, and `missed` counts. */
  from?: string | undefined
  /** How many rows the store has at most, unless `loadOlder` loads more; 1,000 by default. */
  keep?: number
  /** What is kept of each row, for a page that shows the beginning of long ones: an object with its id, createdAt and savedAt. */
  excerpt?: (row: AnyRow) => AnyRow
}

export interface FollowSnapshot<Row> {
  /** Newest first. */
  rows: readonly Row[]
  state: StateOf<typeof followStates>
  /** Why it is `waiting` or `refused`. */
  problem: SpillwayError | undefined
  /** Where `from` goes on: behind the rows of the store, and behind those that the iterators have returned. */
  cursor: string | undefined
  /**
   * How many rows were saved while it was not connected, of those that have come since it last connected; undefined: the server no longer has
   * them all, and the list was read anew.
   */
  missed: number | undefined
  /** Whether `loadOlder` may find more. */
  hasOlder: boolean
}

export interface Follow<Row> extends Store<FollowSnapshot<Row>>, AsyncIterable<Row> {
  /** Adds a page of older rows to the store. Rejects where it cannot be read now. */
  loadOlder(): Promise<void>
  close(): void
}

interface Page {
  savedCursor: string
  edges: { cursor: string; node: AnyRow }[]
  pageInfo: { hasNextPage: boolean }
}

/** An iterator, and the rows that it has not returned. */
interface Reader {
  items: { row: AnyRow; cursor: string | undefined }[]
  /** Behind the last row that it returned; undefined: it is of a page. */
  last: string | undefined
  problem: SpillwayError | undefined
}

interface Deps {
  transport: Transport
  models: Models
  waker: Waker
  closed: AbortSignal
}

const pageLimit = 100
/** The stream is not read on while an iterator has so many rows. */
const mostItems = 1_000
/** Rows that are read to find those that were missed. */
const mostMissed = 10_000
/** Ids that are remembered, since an event may come twice within some minutes. */
const mostSeen = 100_000
/** A refused follow asks again: somebody may have logged in. */
const refusedMs = 15_000
/** A connection that lasted so long was no failed try. */
const stableMs = 10_000
/** How far the clocks of two workers may be apart. */
const skewMs = 60_000

export function makeFollow(
  { transport, models, waker, closed }: Deps,
  key: string,
  { by = {}, first = 50, from, keep = 1_000, excerpt = (row) => row }: FollowOptions,
): Follow<AnyRow> {
  const columns = Object.keys(by)
  const readers = new Set<Reader>()
  /** Ids, and when their rows were saved: another row may have the id of one that was deleted. */
  const seen = new Map<string, string>()
  /** Where each row of a page is in the list. */
  const places = new WeakMap<AnyRow, string>()
  let cursor = from
  /** Events after the last row are lost. */
  let isGap = false
  /** A row that is not seen was missed, if it was saved after this time. */
  let since = 0
  let most = keep
  /** The store has had a page. */
  let isPaged = false
  let run: AbortController | undefined
  let isWatched = false
  let isClosed = false
  /** Something changed for the readers, or for the stream that waits for them. */
  let ring = () => {}
  let rung: Promise<void> | undefined
  const renew = () => {
    ring()
    rung = new Promise((resolve) => {
      ring = resolve
    })
  }

  renew()
  const store = makeStore<FollowSnapshot<AnyRow>>(
    { rows: [], state: 'idle', problem: undefined, cursor, missed: 0, hasOlder: from !== undefined },
    (isNow) => {
      isWatched = isNow
      update()
    },
  )

  function show(part: Partial<FollowSnapshot<AnyRow>> = {}): void {
    let [slowest] = readers
    for (const reader of readers) if (reader.items.length > slowest!.items.length) slowest = reader
    store.set({ ...part, cursor: slowest?.items[0] ? slowest.last : cursor })
  }
  const move = (to: StateOf<typeof followStates>, problem?: SpillwayError) =>
    show({ state: next(followStates, store.getSnapshot().state, to), problem })

  /** Follows as long as there is a subscriber or an iterator. What nobody uses holds nothing of the client. */
  function update(): void {
    if (closed.aborted) close()
    const isUsed = !isClosed && (isWatched || readers.size > 0)
    if (isUsed && !run) {
      run = new AbortController()
      closed.addEventListener('abort', close, { signal: run.signal })
      void follow(run.signal)
    } else if (!isUsed && run) {
      run.abort()
      run = undefined
      if (!isClosed) move('idle')
    }
  }

  function close(): void {
    if (isClosed) return
    isClosed = true
    move('closed')
    update()
    renew()
  }

  function fail(problem: SpillwayError): void {
    for (const reader of readers) reader.problem = problem
    renew()
  }

  async function follow(signal: AbortSignal): Promise<void> {
    for (let tries = 0; !signal.aborted; ) {
      const began = performance.now()
      try {
        const isResumed = cursor !== undefined
        const isRead = !isResumed || (isWatched && !isPaged)
        move(isRead ? 'reading' : 'connecting')
        const documents = await models.of(key, columns)
        if (isRead) {
          await readAnew(documents, signal)
          // A subscriber may have left when it got the page.
          if (signal.aborted) return
          move('connecting')
        }
        const connectedAt = transport.now()
        let missed = 0
        const stream = transport.stream<{ saved: { row: AnyRow } }>(documents.saved, { ...by, after: cursor }, signal)
        for await (const frames of stream) {
          if (signal.aborted) return
          if (store.getSnapshot().state !== 'live') move('live')
          for (const frame of frames) cursor = frame.cursor ?? cursor
          const items = frames.flatMap(({ cursor, result }) =>
            result ? { row: excerpt(result.data!.saved.row), cursor } : [],
          )
          missed += items.filter(({ row }) => Date.parse(row.savedAt) <= connectedAt).length
          add(items, isResumed ? { missed } : {})
          while ([...readers].some(({ items }) => items.length >= mostItems) && !signal.aborted) await rung
        }
        throw 'the stream ended'
      } catch (thrown) {
        if (signal.aborted) return
        const problem = errorOf(thrown)
        const { code } = problem
        if (performance.now() - began > stableMs) tries = 0
        // The server is of another release than its models.
        if (code.startsWith('GRAPHQL')) models.forget()
        // A cursor of another release may be no cursor.
        const isLost = cursor !== undefined && (code === 'CURSOR_EXPIRED' || code === 'BAD_USER_INPUT')
        if (isLost) {
          cursor = undefined
          isGap = true
          show({ missed: undefined })
        }
        const isRefused = isFinal(problem) && !isLost
        move(isRefused ? 'refused' : 'waiting', problem)
        if (isRefused) fail(problem)
        await waker.backOff(tries, isRefused ? refusedMs : problem.retryAfterMs, signal)
        tries += 1
      }
    }
  }

  /** Gives rows, oldest first, to the iterators; returns those that did not come before. */
  function push(items: Reader['items']): AnyRow[] {
    const fresh = items.filter(({ row: { id, savedAt } }) => {
      if (seen.get(id) === savedAt) return false
      seen.set(id, savedAt)
      since = Math.max(since, Date.parse(savedAt) - skewMs)
      return true
    })
    for (const id of seen.keys()) {
      if (seen.size <= mostSeen) break
      seen.delete(id)
    }
    for (const { items, problem } of readers) if (!problem) items.push(...fresh)
    renew()
    return fresh.map(({ row }) => row)
  }

  function add(items: Reader['items'], part: { missed?: number }): void {
    const { rows, hasOlder } = store.getSnapshot()
    const fresh = push(items).reverse()
    const known = new Set(fresh.map(({ id }) => id))
    const all = [...fresh, ...rows.filter(({ id }) => !known.has(id))]
    show({ ...part, rows: all.slice(0, most), hasOlder: hasOlder || all.length > most })
  }

  /** Pages of the list behind a place, or from its beginning; the first one has so many rows. */
  async function* pages({ page: query }: Documents, first: number, after: string | undefined, signal: AbortSignal) {
    for (let hasOlder = true; hasOlder; first = pageLimit) {
      const { page } = await transport.ask<{ page: Page }>(query, { ...by, first, after }, signal)
      hasOlder = page.pageInfo.hasNextPage
      const rows = page.edges.map(({ cursor, node }) => {
        const row = excerpt(node)
        after = cursor
        places.set(row, after)
        return row
      })
      yield { rows, cursor: page.savedCursor, hasOlder }
    }
  }

  /** The rows of the newest page take the place of those in the store; iterators get what they missed. */
  async function readAnew(documents: Documents, signal: AbortSignal): Promise<void> {
    const missed: AnyRow[] = []
    let newest: Pick<FollowSnapshot<AnyRow>, 'rows' | 'hasOlder' | 'cursor'> | undefined
    // Where no row came before, it is not known which ones were missed.
    let isTooMuch = isGap && from !== undefined && since === 0
    for await (const page of pages(documents, first, undefined, signal)) {
      const found = page.rows.filter(({ id, savedAt }) => seen.get(id) !== savedAt && Date.parse(savedAt) > since)
      missed.push(...(newest ? found : page.rows))
      newest ??= page
      isTooMuch ||= missed.length > mostMissed
      if (!isGap || readers.size === 0 || isTooMuch || found.length === 0) break
    }
    const { rows, hasOlder, cursor: place } = newest!
    if (isTooMuch) fail(new SpillwayError('CURSOR_EXPIRED', 'Too much was missed.'))
    most = keep
    isPaged = true
    // Otherwise the events after the cursor have what was saved since.
    if (cursor === undefined) {
      if (!isGap) since = Math.max(0, ...rows.map(({ savedAt }) => Date.parse(savedAt)))
      isGap = false
      cursor = place
      push(missed.reverse().map((row) => ({ row, cursor: undefined })))
    }
    show({ rows, hasOlder })
  }

  async function loadOlder(): Promise<void> {
    const last = store.getSnapshot().rows.at(-1)
    const after = last && places.get(last)
    // Where the place of the last row is not known, the list is read from its beginning.
    for await (const page of pages(await models.of(key, columns), after ? first : pageLimit, after, closed)) {
      const { rows } = store.getSnapshot()
      const known = new Set(rows.map(({ id }) => id))
      const newest =
        rows
          .map(({ createdAt }) => createdAt)
          .sort()
          .at(-1) ?? '~'
      // A newer one is about to come as an event.
      const older = page.rows.filter(({ id, createdAt }) => !known.has(id) && createdAt <= newest)
      if (older.length === 0 && page.hasOlder) continue
      most = Math.max(most, rows.length + older.length)
      show({ rows: [...rows, ...older], hasOlder: page.hasOlder })
      return
    }
  }

  update()
  return {
    getSnapshot: store.getSnapshot,
    subscribe: store.subscribe,
    loadOlder,
    close,
    async *[Symbol.asyncIterator]() {
      // With `from`, those of the page come as events.
      const rows = store.getSnapshot().rows.filter(({ id, savedAt }) => seen.get(id) === savedAt)
      const items = rows.reverse().map((row) => ({ row, cursor: undefined }))
      const reader: Reader = { items, last: from, problem: undefined }
      readers.add(reader)
      update()
      try {
        // What it has not returned is behind the cursor: the follow that goes on there returns it.
        while (!isClosed) {
          const item = reader.items.shift()
          if (item) {
            reader.last = item.cursor ?? reader.last
            show()
            renew()
            yield item.row
          } else if (reader.problem) throw reader.problem
          else await rung
        }
      } finally {
        readers.delete(reader)
        renew()
        update()
      }
    },
  }
}
