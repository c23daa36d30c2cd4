/**
 * The states of a save, of an outbox and of a follow, and what leads from one to another. Invariant: nothing else changes a state. An event that a
 * state does not list leaves it as it is, and is reported: tests fail for it.
 */

type Table = Readonly<Record<string, Readonly<Record<string, string>>>>
export type StateOf<T extends Table> = keyof T & string
export type EventOf<T extends Table> = { [S in keyof T]: keyof T[S] }[keyof T] & string

/** `send`: a request with it begins. `wait`: it waits for its turn. */
export const saveStates = {
  waiting: { send: 'sending', refuse: 'refused' },
  sending: { queue: 'queued', fail: 'failed', retry: 'retrying', wait: 'waiting', refuse: 'refused' },
  /** The last try failed, and another one follows. */
  retrying: { send: 'sending', refuse: 'refused' },
  queued: { save: 'saved', fail: 'failed', lose: 'queued' },
  refused: { wait: 'waiting', refuse: 'refused' },
  saved: {},
  /** A dead letter. */
  failed: {},
} as const

/** `rest`: nothing is left to send. `stick`: nothing but refused saves is left. */
export const outboxStates = {
  idle: { send: 'sending', close: 'closed' },
  sending: { send: 'sending', retry: 'waiting', rest: 'idle', stick: 'refused', close: 'closed' },
  /** For the next try. */
  waiting: { send: 'sending', rest: 'idle', stick: 'refused', close: 'closed' },
  refused: { send: 'sending', rest: 'idle', stick: 'refused', close: 'closed' },
  closed: {},
} as const

/** `stop`: nobody subscribes any more. */
export const followStates = {
  idle: { read: 'reading', connect: 'connecting', close: 'closed' },
  /** A page. */
  reading: { connect: 'connecting', retry: 'waiting', refuse: 'refused', stop: 'idle', close: 'closed' },
  connecting: { open: 'live', retry: 'waiting', refuse: 'refused', stop: 'idle', close: 'closed' },
  live: { retry: 'waiting', refuse: 'refused', stop: 'idle', close: 'closed' },
  /** For the next try. */
  waiting: { read: 'reading', connect: 'connecting', stop: 'idle', close: 'closed' },
  /** It is tried again, slowly: a token may come. */
  refused: { read: 'reading', connect: 'connecting', stop: 'idle', close: 'closed' },
  closed: {},
} as const

/** For tests: `taken` is called with each transition, `unknown` with each event that the state does not list. */
export const watch = {
  taken: (_table: Table, _from: string, _event: string): void => {},
  unknown: (_from: string, _event: string): void => {},
}

export function next<T extends Table>(table: T, from: StateOf<T>, event: EventOf<T>): StateOf<T> {
  const to = table[from]![event] as StateOf<T> | undefined
  if (to === undefined) watch.unknown(from, event)
  else watch.taken(table, from, event)
  return to ?? from
}
