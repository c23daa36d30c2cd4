/** Sorts received entries by model and makes rows of them. Every entry is in exactly one part of the result. */
import { parseId } from '../src/model/input.ts'
import { decode } from '../src/model/message.ts'
import { dataText, type Model, type Models, type Row, Undecodable } from '../src/model/model.ts'
import type { Entry } from '../src/queue/queue.ts'
import { conflict, deadLetter, type RejectedEntry } from './outcome.ts'

/** A row and its entries: all those with its id, its model and its values. */
export interface PendingRow {
  row: Row
  entries: Entry[]
}

export interface Sorted {
  /** In the order of their parents: a model comes after the models that its foreign keys name. */
  rows: ReadonlyMap<Model, PendingRow[]>
  deadLetters: RejectedEntry[]
  /** Entries that a newer release may decode, and why this one does not. */
  newer: { entry: Entry; problem: string }[]
}

export class Sorter {
  readonly #models: Models
  readonly #ordered: readonly Model[]

  constructor(models: Models) {
    this.#models = models
    this.#ordered = parentsFirst(models)
  }

  /** Undefined if the message cannot be decoded. */
  modelOf({ body }: Entry): Model | undefined {
    const message = decode(body, this.#models)
    return message instanceof Undecodable ? undefined : message.model
  }

  sort(entries: readonly Entry[]): Sorted {
    const byId = new Map<string, { model: Model; pending: PendingRow }>()
    const deadLetters: RejectedEntry[] = []
    const newer: Sorted['newer'] = []
    const savedAt = new Date()
    for (const entry of entries) {
      const message = decode(entry.body, this.#models)
      if (message instanceof Undecodable) {
        // It may quote a name that any program has written.
        const problem = message.problem.slice(0, 300).toWellFormed()
        if (message.newer) newer.push({ entry, problem })
        else deadLetters.push(deadLetter(entry, message.code, problem, { model: undefined }))
        continue
      }
      const { model, id, at, values } = message
      // The API checked the same; the queue may hold messages that no API enqueued.
      if (parseId(id) !== id) {
        deadLetters.push(deadLetter(entry, 'REJECTED', 'the id is not a lower-case UUID', { model }))
        continue
      }
      const known = byId.get(id)
      if (!known) {
        const row = values as Row
        row.id = id
        row.createdAt = new Date(at)
        row.savedAt = savedAt
        byId.set(id, { model, pending: { row, entries: [entry] } })
      } else if (known.model === model && dataText(model, known.pending.row) === dataText(model, values)) {
        known.pending.entries.push(entry)
      } else deadLetters.push(deadLetter(entry, 'ID_CONFLICT', conflict(id), { model }))
    }
    const rows = new Map<Model, PendingRow[]>()
    for (const { model, pending } of byId.values()) {
      const some = rows.get(model)
      if (some) some.push(pending)
      else rows.set(model, [pending])
    }
    if (rows.size <= 1) return { rows, deadLetters, newer }
    const ordered = this.#ordered.flatMap((model): [Model, PendingRow[]][] => {
      const some = rows.get(model)
      return some ? [[model, some]] : []
    })
    return { rows: new Map(ordered), deadLetters, newer }
  }
}

/** Models in a circle of foreign keys come in any order: a parent that is missing is waited for. */
function parentsFirst(models: Models): Model[] {
  const ordered = new Set<Model>()
  const visit = (model: Model, children: readonly Model[]) => {
    if (ordered.has(model) || children.includes(model)) return
    for (const { model: name } of model.references) {
      const parent = models.get(name)
      if (parent) visit(parent, [...children, model])
    }
    ordered.add(model)
  }
  for (const model of models.values()) visit(model, [])
  return [...ordered]
}
