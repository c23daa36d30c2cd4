/** The dead letters: what could not be saved, and what is done about it. The list is read anew whenever their number changes. */
import { access } from './access.ts'
import { ask, Refusal } from './api.ts'
import { plural } from './format.ts'
import { DeadLetters, Discard, Retry } from './operations.ts'
import { look, queue } from './queue.ts'
import { say } from './say.ts'
import { makeStore } from './store.ts'

export interface Letter {
  id: string
  content: string | null
  acceptedAt: string | null
  failure: { code: string; message: string; attempts: number; failedAt: string }
}

const page = 20
const largePage = 100
const idsAtOnce = 1_000

export const letters = makeStore({
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

/** As many as are shown already, from the first one on. */
async function reload(): Promise<void> {
  await trying(() => read(undefined, Math.min(largePage, Math.max(page, letters.get().list.length))))
}

export const loadMore = (): Promise<void> => trying(() => read(letters.get().cursor, page))

async function read(after: string | undefined, first: number): Promise<void> {
  if (!access.get().may.admin) return
  const { deadLetters } = await ask(DeadLetters, 'admin', { first, after: after ?? null })
  const more = deadLetters.edges.map(({ node }) => node)
  letters.patch({
    list: after === undefined ? more : [...letters.get().list, ...more],
    cursor: deadLetters.edges.at(-1)?.cursor,
    hasMore: deadLetters.pageInfo.hasNextPage,
    problem: '',
  })
}

export const retry = (ids: string[]): Promise<void> =>
  doing(async () => {
    const { retryDeadLetters } = await ask(Retry, 'admin', { ids })
    return `${plural(retryDeadLetters, 'dead letter')} back in the queue.`
  })

export const discard = (ids: string[]): Promise<void> =>
  doing(async () => {
    const { discardDeadLetters } = await ask(Discard, 'admin', { ids })
    return `${plural(discardDeadLetters, 'dead letter')} discarded.`
  })

export const retryAll = (): Promise<void> =>
  doing(async () => {
    // All that there are now, before any goes back: one that fails again is not retried again.
    const ids = await allIds()
    let done = 0
    for (let i = 0; i < ids.length; i += idsAtOnce) {
      done += (await ask(Retry, 'admin', { ids: ids.slice(i, i + idsAtOnce) })).retryDeadLetters
    }
    return `${plural(done, 'dead letter')} back in the queue.`
  })

async function allIds(): Promise<string[]> {
  const ids: string[] = []
  let after: string | null = null
  do {
    const {
      deadLetters,
    }: { deadLetters: { edges: { cursor: string; node: Letter }[]; pageInfo: { hasNextPage: boolean } } } = await ask(
      DeadLetters,
      'admin',
      { first: largePage, after },
    )
    ids.push(...deadLetters.edges.map(({ node }) => node.id))
    after = deadLetters.pageInfo.hasNextPage ? deadLetters.edges.at(-1)!.cursor : null
  } while (after !== null)
  return ids
}

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
    if (!(error instanceof Refusal)) throw error
    letters.patch({ problem: error.message })
  }
}
