/** What the worker has for each model: the state of its table, and its rows that are being saved or retried. */
import type { Writer } from '../src/db/store.ts'
import type { Log } from '../src/model/log.ts'
import type { Meter } from '../src/model/meter.ts'
import type { Model } from '../src/model/model.ts'
import type { Outcome } from './outcome.ts'
import { Parking } from './parking.ts'
import { Persister } from './persist.ts'
import type { Caller, Slots } from './slots.ts'
import { TableState } from './table-state.ts'

export interface PartitionDeps {
  store: Writer
  slots: Slots
  /** Gets parked rows that are saved or are to be dead-lettered. */
  onFinished: (outcome: Outcome) => void
}

export interface PartitionOptions {
  /** Rows per statement. */
  batch: number
  maxAttempts: number
  retryForMs: number | undefined
  /** See PersisterOptions. */
  isBusy: () => boolean
  log: Log
  meter: Meter
  /** After it aborts, nothing is awaited. */
  signal: AbortSignal
  /** After it aborts, a table that takes no rows is not awaited, and no parked row is retried. */
  stopping: AbortSignal
  /** Called when the number of parked rows changes, and when an outage of the table begins or ends. */
  onChange: () => void
}

export class Partition implements Caller {
  readonly model: Model
  readonly table: TableState
  readonly persister: Persister
  readonly parking: Parking

  constructor(model: Model, { store, slots, onFinished }: PartitionDeps, options: PartitionOptions) {
    const { log, meter, signal, stopping, onChange } = options
    this.model = model
    this.table = new TableState(
      { store },
      { model, log, signal, stopping, meter, onChange, slot: (statement) => slots.run(this, statement) },
    )
    this.persister = new Persister({ store, table: this.table }, { ...options, model })
    this.parking = new Parking(
      { persister: this.persister, onFinished },
      { model: model.name, log, meter, signal: AbortSignal.any([signal, stopping]), onChange },
    )
  }

  get failing(): boolean {
    return this.table.failing
  }
}

/** Undefined as model: entries that need no table. */
export interface HeldRows {
  model: string | undefined
  /** Entries. */
  inFlight: number
  parked: number
}

/** What a worker holds of each model. */
export function holdingOf(
  partitions: Iterable<Partition>,
  batches: Iterable<{ partition: Partition | undefined; entries: readonly unknown[] }>,
): HeldRows[] {
  const inFlight = new Map<string | undefined, number>()
  for (const { partition, entries } of batches) {
    const model = partition?.model.name
    inFlight.set(model, (inFlight.get(model) ?? 0) + entries.length)
  }
  const held = [...partitions].map(({ model, parking }) => ({
    model: model.name as string | undefined,
    parked: parking.rows,
  }))
  return [...held, { model: undefined, parked: 0 }].map((of) => ({ ...of, inFlight: inFlight.get(of.model) ?? 0 }))
}
