/** One save as the page sees it: a promise of its acknowledgement, and a store of its state. */
import type { SpillwayError } from './error.ts'
import { next, type StateOf, saveStates } from './states.ts'
import { makeStore, type Store } from './store.ts'

export interface Receipt {
  id: string
  /** SAVED: an earlier try with this id has been saved already. */
  status: 'QUEUED' | 'SAVED'
  /** The server had the save before. */
  duplicate: boolean
}

export interface SaveSnapshot<Row = unknown> {
  state: StateOf<typeof saveStates>
  /** Why it is `retrying`, `refused` or `failed`; with `queued`: why it cannot be followed to its end. */
  problem: SpillwayError | undefined
  /** With `saved`. */
  row: Row | undefined
}

/** Resolves when the server has the save on disk; rejects with a SpillwayError when it refuses it. */
export interface Save<Row = unknown> extends Promise<Receipt>, Store<SaveSnapshot<Row>> {
  readonly id: string
  /** The row, once it is in the database. Rejects with the dead letter's code, and with FORBIDDEN where the token may not read. */
  saved(): Promise<Row>
}

export interface SaveControl {
  save: Save
  /** `done`: the receipt, with `queued`; the row, with `saved`. */
  move(to: StateOf<typeof saveStates>, problem?: SpillwayError, done?: unknown): void
}

/** `watch` is called when the end of a queued save is wanted. */
export function makeSave(id: string, watch: () => void): SaveControl {
  let resolve!: (receipt: Receipt) => void
  let reject!: (problem: SpillwayError) => void
  const promise = new Promise<Receipt>((...both) => {
    ;[resolve, reject] = both
  })
  // A page may look at the state alone.
  promise.catch(() => {})
  const store = makeStore<SaveSnapshot>({ state: 'waiting', problem: undefined, row: undefined })
  let isWanted = false
  const subscribe = (changed: (snapshot: SaveSnapshot) => void) => {
    if (!isWanted && store.getSnapshot().state === 'queued') {
      // Asked again after it could not be known.
      store.set({ problem: undefined })
      watch()
    }
    isWanted = true
    return store.subscribe(changed)
  }
  return {
    save: Object.assign(promise, {
      id,
      subscribe,
      getSnapshot: store.getSnapshot,
      saved: () =>
        new Promise((resolve, reject) => {
          subscribe(({ state, problem, row }) => {
            if (state === 'saved') resolve(row)
            else if (problem && state !== 'retrying') reject(problem)
          })
        }),
    }),
    move(to, problem, done) {
      const state = next(saveStates, store.getSnapshot().state, to)
      store.set({ state, problem, row: state === 'saved' ? done : undefined })
      if (to === 'queued') {
        if (problem) isWanted = false
        else resolve(done as Receipt)
        if (isWanted) watch()
      } else if (problem && to !== 'retrying') reject(problem)
    },
  }
}
