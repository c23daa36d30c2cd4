/** What a worker does with received entries of one model, without a worker. */
import type { Entry } from '../../src/queue/queue.ts'
import type { Persisted, Persister } from '../../worker/persist.ts'
import { Sorter } from '../../worker/sort.ts'
import { Content, models } from './contents.ts'

const sorter = new Sorter(models)

/** Sorts the entries, persists the rows of Content, and adds the dead letters of the sorting. */
export async function persistEntries(persister: Persister, entries: readonly Entry[]): Promise<Persisted> {
  const { rows, deadLetters } = sorter.sort(entries)
  const persisted = await persister.persist(rows.get(Content) ?? [])
  return { ...persisted, deadLetters: [...deadLetters, ...persisted.deadLetters] }
}
