/**
 * Where an id stands: its receipt, its row and its dead letters. Each part is asked for by itself, so that one that cannot be read does not
 * hold up the others. Invariant: what is shown is of the id that was looked up last.
 */
import { access } from './access.ts'
import { ask, problemOf, textOf } from './client.ts'
import { letters } from './letters.ts'
import { FindDeadLetters, FindReceipt, FindRow, type Operation } from './operations.ts'
import { pause } from './pause.ts'
import { filterHash, findHash, go, onPlace } from './place.ts'
import { dismiss, onRun, run } from './run.ts'
import { makeStore } from './store.ts'

/** Undefined: not known yet. */
export type Part<T> = { value: T } | { problem: string } | undefined

type DataOf<Asked> = Asked extends Operation<infer Data, { id: string }> ? Data : never
export type FoundReceipt = NonNullable<DataOf<typeof FindReceipt>['saveLookup']>['receipt']
type FoundLetters = NonNullable<DataOf<typeof FindDeadLetters>['saveLookup']>
export type FoundLetter = NonNullable<FoundLetters['deadLetters']>[number]

const againMs = 1_000

export const find = makeStore({
  /** Empty: nothing is looked up. */
  id: '',
  receipt: undefined as Part<FoundReceipt>,
  row: undefined as Part<unknown>,
  letters: undefined as Part<{ count: number; list: FoundLetter[] }>,
})

export function watchFind(): void {
  onPlace((place) => show(place.find?.trim() ?? ''))
  onRun(() => void load())
  // What was asked for before the token was there.
  let may = access.get().may.admin
  access.follow(() => {
    if (access.get().may.admin && !may) void load()
    may = access.get().may.admin
  })
}

/** An id as it was typed, or pasted. */
export const lookUp = (id: string): void => go(findHash(id.trim()))

export const close = (): void => go(filterHash(letters.get().filter))

function show(id: string): void {
  if (id === find.get().id && id === '') return
  // What was done to another id.
  if (run.get().current?.at === 'find') dismiss()
  find.set({ id, receipt: undefined, row: undefined, letters: undefined })
  void load()
}

let loadings = 0

/** All parts; and again while the save waits in the queue. */
export async function load(): Promise<void> {
  const { id } = find.get()
  const loading = ++loadings
  const isCurrent = () => loading === loadings && id !== '' && access.get().may.admin
  const part = async <Data>(
    operation: Operation<{ saveLookup: Data | null }, { id: string }>,
    take: (part: Part<Data>) => Partial<ReturnType<typeof find.get>>,
  ) => {
    let found: Part<Data>
    try {
      const { saveLookup } = await ask(operation, 'admin', { id })
      found = saveLookup ? { value: saveLookup } : undefined
    } catch (error) {
      found = { problem: textOf(problemOf(error)) }
    }
    if (isCurrent()) find.patch(take(found))
  }
  const receipt = () => part(FindReceipt, (found) => ({ receipt: taken(found, ({ receipt }) => receipt) }))
  const others = () => [
    part(FindRow, (found) => ({ row: taken(found, ({ row }) => row) })),
    part(FindDeadLetters, (found) => ({
      letters: taken(found, ({ deadLetterCount, deadLetters }) => ({
        count: deadLetterCount ?? 0,
        list: deadLetters ?? [],
      })),
    })),
  ]
  if (isCurrent()) await Promise.all([receipt(), ...others()])
  while (isCurrent() && isQueued(find.get().receipt)) {
    await pause(againMs)
    if (!isCurrent()) return
    await receipt()
    if (!isQueued(find.get().receipt)) await Promise.all(others())
  }
}

const isQueued = (part: Part<FoundReceipt>): boolean =>
  part !== undefined && 'value' in part && part.value?.status === 'QUEUED'

const taken = <From, To>(part: Part<From>, take: (value: From) => To): Part<To> =>
  part && 'value' in part ? { value: take(part.value) } : part
