/** What became of entries: rows, or dead letters. */
import type { StoreFault } from '../src/db/store.ts'
import type { FailureCode } from '../src/model/error.ts'
import { digestOf, type Model, type Row } from '../src/model/model.ts'
import type { DeadLetterInput, Entry } from '../src/queue/queue.ts'

export interface RejectedEntry extends DeadLetterInput {
  /** The id that the event of the failure names: of the save, or the handle, as the dead letter. */
  id: string
  /** The model that it names; undefined if the message cannot be decoded. */
  model: string | undefined
}

export interface SavedRow {
  model: Model
  row: Row
}

export interface Outcome {
  /** Committed rows, in the order in which they were enqueued. The row of a redelivered entry is among them: its event may be missing. */
  saved: SavedRow[]
  entries: Entry[]
  deadLetters: RejectedEntry[]
}

export function deadLetter(
  entry: Entry,
  code: FailureCode,
  message: string,
  { model, attempts = 1 }: { model: Model | undefined; attempts?: number },
): RejectedEntry {
  const failure = { code, message, attempts, failedAt: new Date() }
  return { entry, id: entry.id ?? entry.handle, model: model?.name, failure }
}

/** Names the existing row to the queue, so that the queue refuses the next conflict. */
export function conflictWith(model: Model, row: Row, entry: Entry): RejectedEntry {
  const existing = { digest: digestOf(model, row), at: +row.createdAt }
  return { ...deadLetter(entry, 'ID_CONFLICT', conflict(row.id), { model }), existing }
}

export function conflict(id: string): string {
  return `the id ${id} is already saved with other content`
}

/** For operators and senders: the database's code, and the name of the constraint or column, never its message, which names hosts and quotes content. */
export function describeFault({ name, references }: Model, { kind, vendorCode, index, rule }: StoreFault): string {
  const code = vendorCode ? ` (code ${vendorCode})` : ''
  const because = rule ? `, because of its ${rule}` : ''
  if (kind === 'too-large') return `the ${name} is larger than the database takes in one statement${code}`
  if (kind === 'duplicate') return `another row has the same value in the unique index ${index}${code}`
  if (kind === 'reference') {
    const parents = references.map(({ model, columns }) => `${model} of its ${columns.join(' and ')}`)
    return `the row that this ${name} refers to${parents.length > 0 ? ` (the ${parents.join(', or the ')})` : ''} was not saved in time${because}${code}`
  }
  if (kind === 'rejected') return `the database rejects this ${name}${because}${code}`
  return `the database failed on this ${name} at every attempt, and on no other one${code}`
}
