/**
 * The list of the dead letters: the filter, the counts by code, and a window of the list, newest first. Invariants: the page holds at most
 * `most` of them, without their inputs, however many there are; and the list does not move while somebody reads or selects in it. Counts
 * read all dead letters on the server: they are asked for when the filter changes, on demand, and seldom besides.
 */
import { access } from './access.ts'
import { ask, problemOf, textOf } from './client.ts'
import { DeadLetterCounts, DeadLetters } from './operations.ts'
import { anything, conditionsOf, type Filter, filterHash, go, onPlace } from './place.ts'
import { queue } from './queue.ts'
import { onRun } from './run.ts'
import { makeStore } from './store.ts'

export interface Letter {
  /** Its place in the list; several may have one id. */
  cursor: string
  saveId: string
  model: string | null
  code: string
  /** The beginning of it. */
  reason: string
  failedAt: string
}

const page = 50
const most = 200
const reasonLength = 300
/** The list and its counts are read again by themselves at most so often. */
const everyMs = 5_000

export const letters = makeStore({
  filter: anything,
  list: [] as Letter[],
  /** Whether there are more, on either side of the list. */
  newer: false,
  older: false,
  /** Of the filter without its code; undefined: not known. */
  counts: undefined as { code: string; count: number }[] | undefined,
  /** Ids of those that are shown. */
  selected: new Set<string>() as ReadonlySet<string>,
  /** The list is not what the server has now. */
  stale: false,
  reading: false,
  problem: '',
})

/** How many match the filter. */
export function totalOf({ filter, counts }: Pick<ReturnType<typeof letters.get>, 'filter' | 'counts'>) {
  return counts
    ?.filter(({ code }) => filter.code === '' || code === filter.code)
    .reduce((sum, { count }) => sum + count, 0)
}

export function watchLetters(): void {
  onPlace(({ filter }) => {
    if (filter && filterHash(filter) !== filterHash(letters.get().filter)) show(filter)
  })
  // The first number that comes is no change of it.
  let seen: number | undefined
  let may = false
  const grown = () => {
    const now = queue.get().status?.deadLetters ?? seen
    if (seen !== undefined && now !== seen) changed()
    seen = now
  }
  queue.follow(grown)
  onRun(() => void refresh())
  access.follow(() => {
    if (access.get().may.admin && !may) void refresh()
    may = access.get().may.admin
  })
  may = access.get().may.admin
  void refresh()
}

/** Narrows the list, and says so in the address. */
export const narrow = (part: Partial<Filter>): void => go(filterHash({ ...letters.get().filter, ...part }))

function show(filter: Filter): void {
  letters.patch({ filter, list: [], newer: false, older: false, counts: undefined, selected: new Set(), problem: '' })
  void refresh()
}

/** The newest ones, and the counts. */
export async function refresh(): Promise<void> {
  refreshedAt = Date.now()
  await Promise.all([read({ first: page }), count()])
}

let refreshedAt = 0
let isDue = false

/** Somebody reads or selects in the list. */
let inUse = false

export function use(isUsed: boolean): void {
  inUse = isUsed
  if (!isUsed && letters.get().stale) changed()
}

/** Now, or after a while; only the counts where the list must not move. */
function changed(): void {
  if (isDue) return
  isDue = true
  setTimeout(
    () => {
      isDue = false
      const { selected, newer } = letters.get()
      if (!inUse && selected.size === 0 && !newer) return void refresh()
      refreshedAt = Date.now()
      letters.patch({ stale: true })
      void count()
    },
    Math.max(0, refreshedAt + everyMs - Date.now()),
  )
}

export const loadOlder = (): Promise<void> => read({ first: page, after: letters.get().list.at(-1)!.cursor })

export const loadNewer = (): Promise<void> => read({ last: page, before: letters.get().list[0]!.cursor })

export function select(ids: readonly string[], isSelected: boolean): void {
  const selected = new Set(letters.get().selected)
  for (const id of ids) isSelected ? selected.add(id) : selected.delete(id)
  letters.patch({ selected })
}

let readings = 0

async function read(range: { first: number; after?: string } | { last: number; before: string }): Promise<void> {
  if (!access.get().may.admin) return
  const reading = ++readings
  letters.patch({ reading: true })
  try {
    const { deadLetters } = await ask(DeadLetters, 'admin', { ...range, filter: conditionsOf(letters.get().filter) })
    if (reading !== readings) return
    const { edges = [], pageInfo } = deadLetters ?? {}
    const more = edges.map(({ cursor, node: { saveId, model, failure } }): Letter => {
      const { code, message, failedAt } = failure
      return { cursor, saveId, model, code, reason: beginningOf(message), failedAt }
    })
    letters.patch({ ...joined(range, more, pageInfo), problem: '', reading: false })
  } catch (error) {
    if (reading === readings) letters.patch({ problem: textOf(problemOf(error)), reading: false })
  }
}

/** A copy: what is sliced alone keeps the whole text in memory. */
const beginningOf = (text: string): string =>
  text.length > reasonLength ? structuredClone(`${text.slice(0, reasonLength)}…`) : text

function joined(
  range: { after?: string; before?: string },
  more: Letter[],
  info: { hasNextPage: boolean; hasPreviousPage: boolean } | undefined,
) {
  const { list: before, newer, older, selected } = letters.get()
  const after = info?.hasNextPage ?? false
  if (range.after !== undefined) {
    const all = [...before, ...more]
    return windowOf(all.slice(-most), { newer: newer || all.length > most, older: after }, selected)
  }
  if (range.before !== undefined) {
    const all = [...more, ...before]
    return windowOf(
      all.slice(0, most),
      { newer: info?.hasPreviousPage ?? false, older: older || all.length > most },
      selected,
    )
  }
  return { ...windowOf(more, { newer: false, older: after }, selected), stale: false }
}

function windowOf(list: Letter[], beyond: { newer: boolean; older: boolean }, selected: ReadonlySet<string>) {
  const shown = new Set(list.map(({ saveId }) => saveId))
  return { list, ...beyond, selected: new Set([...selected].filter((id) => shown.has(id))) }
}

let countings = 0

async function count(): Promise<void> {
  if (!access.get().may.admin) return
  const counting = ++countings
  try {
    const filter = conditionsOf({ ...letters.get().filter, code: '' })
    const { deadLetters } = await ask(DeadLetterCounts, 'admin', { filter })
    if (counting === countings) letters.patch({ counts: deadLetters?.countsByCode ?? [] })
  } catch (error) {
    if (counting === countings) letters.patch({ counts: undefined, problem: textOf(problemOf(error)) })
  }
}
