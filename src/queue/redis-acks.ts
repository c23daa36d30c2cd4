/** How a worker marks entries as saved in Redis, and acknowledges them. */
import type { RedisConnection } from '../redis/connection.ts'
import type { Entry } from './queue.ts'
import type { QueueKeys, Scripts } from './redis-scripts.ts'

interface Deps {
  acking: RedisConnection
  /** Of this connection. */
  scripts: Pick<Scripts, 'spillAck'>
  keys: QueueKeys
}

interface Options {
  /** The consumer group. */
  group: string
  rememberedIds: number
}

/** Of one call: a script must not block Redis for long. */
const entriesPerCall = 1_000

export class RedisAcks {
  readonly #deps: Deps
  readonly #options: Options
  /** How often the connection has become ready: another server may answer since. */
  #connections = 0
  /** The lists of entries that were marked saved, and over which of these connections. */
  readonly #marked = new WeakMap<readonly Entry[], number>()

  constructor(deps: Deps, options: Options) {
    this.#deps = deps
    this.#options = options
    deps.acking.onReady(() => {
      this.#connections += 1
    })
  }

  async markSaved(entries: readonly Entry[]): Promise<void> {
    const connection = this.#connections
    await this.#run('markSaved', entries)
    this.#marked.set(entries, connection)
  }

  /** Of the list that was marked saved over the same connection, only the handles are sent: a server that took over may lack the marks. */
  ack(entries: readonly Entry[]): Promise<void> {
    return this.#run(this.#marked.get(entries) === this.#connections ? 'ackMarked' : 'ack', entries)
  }

  async #run(how: 'markSaved' | 'ack' | 'ackMarked', entries: readonly Entry[]): Promise<void> {
    const { keys: k, acking, scripts } = this.#deps
    const { group, rememberedIds } = this.#options
    const calls: Promise<unknown>[] = []
    for (let i = 0; i < entries.length; i += entriesPerCall) {
      const some = entries.slice(i, i + entriesPerCall)
      const handles = some.map(({ handle }) => handle)
      const args = how === 'ackMarked' ? handles : [...handles, ...some.map(({ id }) => id ?? '')]
      calls.push(
        acking.ask(() =>
          scripts.spillAck(
            ...[k.stream, k.pending, k.saved, k.savedBefore, k.attempts, how, group, rememberedIds, ...args],
          ),
        ),
      )
    }
    await Promise.all(calls)
  }
}
