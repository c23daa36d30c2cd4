/** A client of a Spillway server: saves with an outbox, follows saved rows, and asks what else the server answers. */
import { type FollowOptions, makeFollow } from './follow.ts'
import { makeModels } from './models.ts'
import { makeOutbox, type Outbox } from './outbox.ts'
import { makeWaker } from './pause.ts'
import { makeReceipts } from './receipts.ts'
import type { AnyModels, ModelClient, ModelsOf } from './shapes.ts'
import type { Storage } from './storage.ts'
import { shareOutbox } from './tabs.ts'
import { type Model, makeTransport, type Token } from './transport.ts'
import { uuidv7 } from './uuid.ts'

export { type Code, isFinal, SpillwayError } from './error.ts'
export type { Follow, FollowOptions, FollowSnapshot } from './follow.ts'
export type { Outbox, OutboxSnapshot, Refused } from './outbox.ts'
export type { Receipt, Save, SaveSnapshot } from './save.ts'
export type { ModelClient } from './shapes.ts'
export { type Entry, indexedDbOutbox, localStorageOutbox, type Storage } from './storage.ts'
export type { Store } from './store.ts'
export type { Column, Model, Token } from './transport.ts'
export { uuidv7 } from './uuid.ts'

export interface ClientOptions {
  /** A function is called for each request; after a 401 once more, with the token that was refused. */
  token?: Token | undefined
  /** Where saves wait that the server has not acknowledged; without one, in memory. */
  storage?: Storage | undefined
}

export interface ClientMembers {
  readonly $outbox: Outbox
  /** What the server tells of its models, once for the client. */
  $models(): Promise<readonly Model[]>
  /** A query or a mutation. */
  $query<Data>(document: string, variables?: Readonly<Record<string, unknown>>, signal?: AbortSignal): Promise<Data>
  /** The server's time, for what happened a moment ago: the device's clock may be wrong. */
  $now(): number
  /** Ends every request and every follow. The saves that wait stay in the storage, for the next client. */
  $close(): void
}

/** `M`: `typeof models` of the server, where models are to be typed. */
export type Client<M = AnyModels> = ClientMembers & ModelsOf<M>

export function createClient<M = AnyModels>(url: string, { token, storage }: ClientOptions = {}): Client<M> {
  const end = new AbortController()
  const closed = end.signal
  const tab = uuidv7()
  const waker = makeWaker(closed)
  const transport = makeTransport(url, token, closed)
  const models = makeModels(transport)
  const deps = { transport, models, waker, closed }
  const { save, adopt, deny, outbox } = makeOutbox({ ...deps, storage, tab, follow: makeReceipts(deps) })
  if (storage) shareOutbox({ storage, tab, adopt, deny, closed })

  const members: ClientMembers = {
    $outbox: outbox,
    $models: models.all,
    $query: (document, variables = {}, signal) => transport.ask(document, variables, signal),
    $now: transport.now,
    $close: () => end.abort(),
  }
  const known: Record<string, unknown> = Object.assign(Object.create(null), members)
  return new Proxy(known, {
    get(_, key) {
      if (typeof key !== 'string' || key === 'then') return undefined
      if (!key.startsWith('$')) {
        // The same object each time, for React's hooks.
        known[key] ??= {
          save: (input: { id?: string }, { id }: { id?: string } = {}) => save(key, input, id),
          follow: (options: FollowOptions = {}) => makeFollow(deps, key, options),
        } satisfies ModelClient
      }
      return known[key]
    },
  }) as unknown as Client<M>
}
