/**
 * The saves that the server has not acknowledged. Invariants: a save is sent under its one id until the server has acknowledged or refused it, however
 * often that takes; what a tab saved is sent in its order; one request is under way at a time.
 */
import { closedError, errorOf, isFinal, SpillwayError } from './error.ts'
import type { Models } from './models.ts'
import type { Waker } from './pause.ts'
import { makeSave, type Save, type SaveControl } from './save.ts'
import { next, outboxStates, type StateOf } from './states.ts'
import type { Entry, Storage } from './storage.ts'
import { makeStore, type Store } from './store.ts'
import { type Transport, toJson } from './transport.ts'
import { uuidv7 } from './uuid.ts'

const mostOfBatch = 100
const mostLengthOfBatch = 256 * 1024
const mostSaves = 100_000
const mostLength = 64 * 1024 * 1024
/** Tries with a document that the server does not know. */
const mostStale = 3

/** A save that the server refused, and that another token, another server or a correction may let pass. */
export interface Refused extends Entry {
  problem: SpillwayError
}

export interface OutboxSnapshot {
  state: StateOf<typeof outboxStates>
  /** How many saves the server has neither acknowledged nor refused. */
  waiting: number
  refused: readonly Refused[]
  /** Why the last request failed; undefined after one that did not. */
  problem: SpillwayError | undefined
  /** `unavailable`: the storage does not have all of them, so that some would be lost with the page. */
  storage: 'ok' | 'unavailable'
}

export interface Outbox extends Store<OutboxSnapshot> {
  /** Sends refused saves again, after a login; and ends every pause. */
  retry(): void
  /** Forgets a save. It may have been enqueued already. */
  discard(id: string): void
}

/** A save in the outbox. */
interface Waiting {
  entry: Entry
  text: string
  control: SaveControl
  /** Of an earlier page: nobody has its promise. */
  isAdopted: boolean
  /** On its way into the storage; it never rejects. */
  put: Promise<void>
}

interface Deps {
  transport: Transport
  models: Models
  waker: Waker
  storage: Storage | undefined
  tab: string
  /** Follows a queued save to its end. */
  follow(control: SaveControl, model: string): void
  closed: AbortSignal
}

interface Answer {
  status: 'QUEUED' | 'SAVED' | 'FAILED'
  duplicate: boolean
  failure: Pick<SpillwayError, 'code' | 'message'> | null
}

export function makeOutbox({ transport, models, waker, storage, tab, follow, closed }: Deps) {
  /** By id, in the order of sending. */
  let queue = new Map<string, Waiting>()
  const refused = new Map<string, Waiting & { problem: SpillwayError }>()
  let length = 0
  /** Of the last save, in the order of this tab. */
  let last = 0
  /** The storage may lack the saves up to this one. */
  let unkept = -1
  let isDenied = false
  let isRunning = false
  const { set, ...store } = makeStore<OutboxSnapshot>({
    state: 'idle',
    waiting: 0,
    refused: [],
    problem: undefined,
    storage: 'ok',
  })

  function show(to?: StateOf<typeof outboxStates>, problem = store.getSnapshot().problem): void {
    const { state } = store.getSnapshot()
    const [oldest = { entry: { at: unkept + 1 } }] = queue.values()
    set({
      state: to ? next(outboxStates, state, to) : state,
      waiting: queue.size,
      refused: [...refused.values()].map(({ entry, problem }) => ({ ...entry, problem })),
      problem,
      storage: isDenied || oldest.entry.at <= unkept ? 'unavailable' : 'ok',
    })
  }

  function add(entry: Entry, text: string, isAdopted: boolean): Waiting {
    const control = makeSave(entry.id, () => follow(control, entry.model))
    length += text.length
    return { entry, text, control, isAdopted, put: keep(entry) }
  }

  async function keep(entry: Entry): Promise<void> {
    try {
      await storage?.put(entry)
      isDenied = false
    } catch {
      // If it was cleared, it has no earlier one, either.
      unkept = entry.at
      show()
    }
  }

  /** They are sent first. */
  function addFirst(waiting: readonly Waiting[]): void {
    queue = new Map([...waiting.map((one) => [one.entry.id, one] as const), ...queue])
    show()
    void run()
  }

  function forget({ entry: { id }, text, put }: Waiting): void {
    queue.delete(id)
    refused.delete(id)
    length -= text.length
    put.then(() => storage?.delete(id)).catch(() => {})
  }

  function refuse(waiting: Waiting, problem: SpillwayError, isKept: boolean): void {
    const { control, entry } = waiting
    if (isKept) {
      queue.delete(entry.id)
      refused.set(entry.id, { ...waiting, problem })
    } else forget(waiting)
    control.move('refused', problem)
  }

  function nextBatch(most: number): Waiting[] {
    const batch: Waiting[] = []
    let size = 0
    for (const waiting of queue.values()) {
      size += waiting.text.length
      const [first] = batch
      if (first && (first.entry.model !== waiting.entry.model || size > mostLengthOfBatch)) break
      if (batch.push(waiting) === most) break
    }
    return batch
  }

  function take(waiting: Waiting, { status, duplicate, failure }: Answer): void {
    const { control, entry } = waiting
    forget(waiting)
    if (failure) control.move('failed', new SpillwayError(failure.code, failure.message))
    else control.move('queued', undefined, { id: entry.id, status, duplicate })
  }

  async function run(): Promise<void> {
    if (isRunning || queue.size === 0) return
    isRunning = true
    let tries = 0
    /** How many saves are sent one by one, to find the one that the server refuses. */
    let single = 0
    while (queue.size > 0 && !closed.aborted) {
      const batch = nextBatch(single > 0 ? 1 : mostOfBatch)
      // Those that were not discarded meanwhile.
      const sent = () => batch.filter(({ entry }) => queue.has(entry.id))
      for (const { control } of batch) control.move('sending')
      show('sending')
      try {
        const { saveMany } = await models.of(batch[0]!.entry.model)
        const inputs = batch.map(({ entry: { id, input } }) => ({ ...input, id }))
        const { saves } = await transport.ask<{ saves: Answer[] }>(saveMany, { inputs })
        for (const waiting of sent()) take(waiting, saves[batch.indexOf(waiting)]!)
        tries = 0
        single -= 1
        set({ problem: undefined })
      } catch (thrown) {
        const problem = errorOf(thrown)
        const { code, path } = problem
        const isOfInput = code === 'BAD_USER_INPUT' || code === 'ID_CONFLICT'
        const isOfModels = code.startsWith('GRAPHQL')
        if (closed.aborted) break
        // The server is of another release than its models, or this save is: then it must not keep the others.
        if (isOfModels) models.forget()
        if (!isFinal(problem) && !(isOfModels && tries >= mostStale)) {
          for (const { control } of sent()) control.move('retrying', problem)
          show('waiting', problem)
          await waker.backOff(tries, problem.retryAfterMs, closed)
          tries += 1
        } else if ((isOfInput || code === 'BAD_REQUEST') && batch.length > 1) {
          single = batch.length
          for (const { control } of sent()) control.move('waiting')
        } else {
          // No save passes with a token that is refused before any field is.
          const all = code === 'UNAUTHENTICATED' && !path ? [...queue.values()] : sent()
          for (const waiting of all) refuse(waiting, problem, !isOfInput || waiting.isAdopted)
          single -= 1
          tries = 0
          show(undefined, problem)
        }
      }
    }
    isRunning = false
    rest()
  }

  const rest = () => {
    if (!closed.aborted) show(refused.size > 0 ? 'refused' : 'idle')
  }

  closed.addEventListener('abort', () => {
    for (const { control } of queue.values()) control.move('refused', closedError())
    show('closed')
  })

  return {
    save(model: string, input: { id?: string }, given: string = input?.id ?? uuidv7()): Save {
      const id = `${given}`.toLowerCase()
      let text = ''
      let problem: SpillwayError | undefined
      try {
        text = toJson(input ?? {}) ?? 'null'
      } catch (error) {
        problem = new SpillwayError('BAD_USER_INPUT', `No JSON: ${error}`)
      }
      const known = queue.get(id) ?? refused.get(id)
      if (known) {
        if (known.text === text && known.entry.model === model) return known.control.save
        problem = new SpillwayError('ID_CONFLICT', `Other content with the id ${id} is waiting.`)
      }
      const count = queue.size + refused.size
      if (count >= mostSaves || length + text.length > mostLength)
        problem = new SpillwayError('OUTBOX_FULL', `${count} saves are waiting.`)
      if (closed.aborted) problem = closedError()
      if (problem) {
        const { save, move } = makeSave(id, () => {})
        move('refused', problem)
        return save
      }
      last += 1
      // The input as it is now, whatever the page changes later.
      const waiting = add({ id, model, input: JSON.parse(text), tab, at: last }, text, false)
      queue.set(id, waiting)
      show()
      // The saves of one turn go together.
      queueMicrotask(run)
      return waiting.control.save
    },

    /**
     * Saves of an earlier page, or of a tab that was closed: they go before this tab's own. Resolves when they are this tab's in the
     * storage, too.
     */
    async adopt(entries: readonly Entry[]): Promise<void> {
      const adopted = entries
        .filter(({ id }) => !queue.has(id) && !refused.has(id))
        .sort((a, b) => a.at - b.at)
        .map((entry) => {
          last += 1
          return add({ ...entry, tab, at: last }, JSON.stringify(entry.input), true)
        })
      addFirst(adopted)
      await Promise.all(adopted.map(({ put }) => put))
    },

    /** The storage cannot be read. */
    deny(): void {
      isDenied = true
      show()
    },

    outbox: {
      ...store,
      retry() {
        const again = [...refused.values()]
        refused.clear()
        for (const { control } of again) control.move('waiting')
        addFirst(again)
        waker.wake()
      },
      discard(id) {
        const waiting = queue.get(id) ?? refused.get(id)
        if (!waiting) return
        refuse(waiting, new SpillwayError('ABORTED', 'Discarded.'), false)
        show()
        if (store.getSnapshot().state === 'refused') rest()
        waker.wake()
      },
    } satisfies Outbox as Outbox,
  }
}
