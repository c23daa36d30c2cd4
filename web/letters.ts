/** The dead letters: what could not be saved, and what is done about it. The list is read anew whenever their number changes. */
import { access } from './access.ts'
import { ask, problemOf, textOf } from './client.ts'
import { plural } from './format.ts'
import { DeadLetters, Discard, Retry } from './operations.ts'
import { look, queue } from './queue.ts'
import { say } from './say.ts'
import { makeStore } from './store.ts'

export interface Letter {
  /** Its place in the list; several may have one id. */
  cursor: string
  saveId: string
  model: string | null
  input: unknown
  acceptedAt: string | null
  failure: { code: string; message: string; attempts: number; failedAt: string }
}

const page = 20
const largePage = 100
/** A filter that all dead letters match. */
const all = { failedAfter: new Date(0).toISOString() }

export const letters = makeStore({
  /** Only those of this model; empty: all. */
  model: '',
  list: [] as Letter[],
  cursor: undefined as string | undefined,
  hasMore: false,
  busy: false,
  problem: '',
})

export function watchLetters(): void {
  let seen = 0
  queue.follow(() => {
    const now = queue.get().status?.deadLetters ?? seen
    if (now === seen) return
    if (now > seen) say(`${plural(now - seen, 'new dead letter')}.`)
    seen = now
    if (!letters.get().busy) void reload()
  })
}

export async function showOnly(model: string): Promise<void> {
  letters.patch({ model, list: [], hasMore: false })
  await trying(() => read(undefined, page))
}

/** As many as are shown already, from the first one on. */
async function reload(): Promise<void> {
  await trying(() => read(undefined, Math.min(largePage, Math.max(page, letters.get().list.length))))
}

export const loadMore = (): Promise<void> => trying(() => read(letters.get().cursor, page))

async function read(after: string | undefined, first: number): Promise<void> {
  if (!access.get().may.admin) return
  const { model } = letters.get()
  const filter = model === '' ? null : { model }
  const { deadLetters } = await ask(DeadLetters, 'admin', { first, after: after ?? null, filter })
  if (letters.get().model !== model) return
  const { edges = [], pageInfo } = deadLetters ?? {}
  const more = edges.map(({ cursor, node }) => ({ cursor, ...node }))
  letters.patch({
    list: after === undefined ? more : [...letters.get().list, ...more],
    cursor: edges.at(-1)?.cursor,
    hasMore: pageInfo?.hasNextPage ?? false,
    problem: '',
  })
}

export const retry = (ids: string[]): Promise<void> => doing(() => retried({ ids }))

/** All that there are now, of the model that is shown, in one run: one that fails again is not retried again. */
export const retryAll = (): Promise<void> =>
  doing(() => retried({ filter: letters.get().model === '' ? all : { model: letters.get().model } }))

async function retried(which: { ids: string[] } | { filter: typeof all | { model: string } }): Promise<string> {
  const { retryDeadLetters } = await ask(Retry, 'admin', which)
  return `${plural(retryDeadLetters?.count ?? 0, 'dead letter')} back in the queue.`
}

export const discard = (ids: string[]): Promise<void> =>
  doing(async () => {
    const { discardDeadLetters } = await ask(Discard, 'admin', { ids })
    return `${plural(discardDeadLetters?.count ?? 0, 'dead letter')} discarded.`
  })

/** One thing at a time; then the list and the numbers as they are. */
async function doing(act: () => Promise<string>): Promise<void> {
  if (letters.get().busy) return
  letters.patch({ busy: true })
  await trying(async () => {
    say(await act())
    await read(undefined, page)
  })
  letters.patch({ busy: false })
  look()
}

async function trying(act: () => Promise<void>): Promise<void> {
  try {
    await act()
  } catch (error) {
    letters.patch({ problem: textOf(problemOf(error)) })
  }
}
