/**
 * The embedded events log: in the SQLite file of the embedded queue, owned by the same thread (../embedded/). Positions are the numbers of
 * the entries, without gaps; `minor` is always 0.
 */
import type { MessagePort } from 'node:worker_threads'
import type { Models } from '../model/model.ts'
import { RpcClient } from '../sqlite/rpc-client.ts'
import { decodeEvents, encodeEvents } from './codec.ts'
import { type EventLog, expired, type KnownEvent, type LogEntry, type Position } from './events.ts'
import type { HistoryStore } from './history.ts'
import { type EventsCalls, eventsQuestions, type LogRow } from './sqlite-tables.ts'

export class SqliteEventLog implements EventLog {
  readonly #rpc: RpcClient<EventsCalls, LogRow | undefined>
  readonly #models: Models
  readonly history: HistoryStore = {
    add: (counts) => this.#rpc.call('addHistory', [counts]),
    read: (ring) => this.#rpc.call('readHistory', [ring]),
  }
  readonly #followers = new Set<{ wake(entry?: LogEntry): void }>()

  /** `port`: from SqliteFile.connect, used by this log alone. */
  constructor(port: MessagePort, { models }: { models: Models }) {
    this.#models = models
    this.#rpc = new RpcClient(port, eventsQuestions)
    this.#rpc.onEvent = (row) => {
      for (const follower of [...this.#followers])
        follower.wake(row?.events === undefined ? undefined : entryOf(row, models))
    }
  }

  async append(entries: readonly (readonly KnownEvent[])[]): Promise<void> {
    if (entries.length > 0) await this.#rpc.call('append', [entries.map(encodeEvents)])
  }

  async tail(): Promise<Position> {
    const { epoch, major } = await this.#rpc.call('tail', [])
    return { epoch, major, minor: 0 }
  }

  async read(after: Position, limit: number): Promise<LogEntry[]> {
    const rows = await this.#rpc.call('read', [after, limit])
    if (rows === 'expired') throw expired()
    const intact: LogEntry[] = []
    for (const row of rows) {
      const entry = entryOf(row, this.#models)
      if (!entry) {
        // A damaged entry. A reader right before it has lost events: its cursor is expired.
        if (intact.length === 0) throw expired()
        break
      }
      intact.push(entry)
    }
    return intact
  }

  probe(): Promise<string | undefined> {
    return this.#rpc.codeOf(() => this.#rpc.call('probeEvents', []))
  }

  follow(wake: (entry?: LogEntry) => void): () => Promise<void> {
    const follower = { wake }
    this.#followers.add(follower)
    const followed = this.#follow()
    // Entries that were appended before the thread registered the follower did not wake it.
    void followed.then(() => this.#followers.has(follower) && wake())
    return async () => {
      this.#followers.delete(follower)
      await followed
      await this.#follow()
    }
  }

  async #follow(): Promise<void> {
    // Fails only if the thread has ended, and then no wake-up can come.
    await this.#rpc.call('follow', [this.#followers.size > 0]).catch(() => {})
  }

  async close(): Promise<void> {
    this.#followers.clear()
    await this.#rpc.close()
  }
}

/** Undefined if its text is damaged. */
function entryOf({ epoch, major, previous, events: text }: LogRow, models: Models): LogEntry | undefined {
  const events = decodeEvents(text ?? '', models)
  return (
    events && {
      position: { epoch, major, minor: 0 },
      previous: previous === 0 ? undefined : { epoch, major: previous, minor: 0 },
      events,
    }
  )
}
