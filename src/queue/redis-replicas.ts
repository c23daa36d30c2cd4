/**
 * Replicated acknowledgement (QUEUE_REPLICAS): a write is reported as done only when enough replicas have it, too. Invariant: a script and
 * the WAIT behind it go to one server, on one connection, with no command between them: WAIT waits for what its own connection wrote last.
 *
 * - The writes that the API answers wait (enqueue, retry, replace, discard), and are reported as OUTCOME_UNKNOWN if too few replicas confirm.
 * - A worker waits once, when it has received messages, and goes on after a second: without it, a row could be committed whose message is
 *   lost by a failover, so that its event is lost for good, and the new primary could use the handle of the message again.
 * - Its other writes (markSaved, ack, deadLetter, leases, attempts) do not wait. Scripts are replicated as transactions, so a failover that
 *   undoes one brings the message back to the stream as a whole. It is received again, and becomes the same row, or a dead letter again.
 * - Its event is not lost. Replication is one ordered stream: a replica that has an acknowledgement has the event that was appended before.
 *   Where they go to different servers, the event comes first: an append waits up to half a second for the replicas (events/redis.ts), and
 *   before an acknowledgement that is repeated, the worker appends the event again (worker/publisher.ts).
 *
 * WAIT blocks its connection until the replicas confirm, so the writes of the API have connections of their own, and reads are not delayed.
 */
import type { Redis } from 'ioredis'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { type RedisConnection, retryAfterMs } from '../redis/connection.ts'
import type { ReplicaState } from './queue.ts'
import { type Scripts, scriptNamed } from './redis-scripts.ts'
import type { ServerState } from './redis-server.ts'

/** Below the deadline of a command, 2 s, also with half of it before (see #wait). */
const waitMs = 1_000
/** With half of it before, shorter than /readyz waits. */
const probeMs = 400
/** As many as an API enqueues at once (app/enqueue-batcher.ts): one call then waits behind no other. */
const connectionCount = 4

/** WAITAOF: a replica has it on its disk. WAIT: in its memory. */
type Wait = 'WAIT' | 'WAITAOF'

interface Deps {
  /** Used until the connections of its own are ready. */
  connection: RedisConnection
  open: () => RedisConnection
  /** What the server was last seen to be. */
  server: () => Promise<ServerState | undefined>
  log: Log
}

interface Options {
  /** How many replicas must have a write; 0: none, and nothing waits. */
  replicas: number
  /** The key that the probe writes. */
  fence: string
  /** Called when replicas did not confirm in time. */
  onUnconfirmed: () => void
}

interface Lane {
  connection: RedisConnection
  /** Under way. */
  calls: number
}

type Reply<Name extends keyof Scripts> = Awaited<ReturnType<Scripts[Name]>>

export class ReplicatedWrites {
  readonly #deps: Deps
  readonly #options: Options
  /** Opened with the first write: a worker process has none. */
  #lanes: Lane[] = []
  #probing: RedisConnection | undefined
  #lastLogged: string | undefined
  #confirmed = true
  #unconfirmedCalls = 0

  constructor(deps: Deps, options: Options) {
    this.#deps = deps
    this.#options = options
  }

  get wanted(): boolean {
    return this.#options.replicas > 0
  }

  /**
   * Runs a script that writes. With `unconfirmed` the primary has done it, and too few replicas confirmed that they have it. Rejects as
   * RedisConnection.ask does, and with QUEUE_UNAVAILABLE while too few replicas are connected. `waits`: false for what acknowledges nothing.
   */
  async write<Name extends keyof Scripts>(
    name: Name,
    args: readonly (string | number)[],
    waits = true,
  ): Promise<{ reply: Reply<Name>; unconfirmed?: SpillwayError }> {
    if (this.wanted && waits) return await this.#writeAndWait(name, args)
    const run = (client: Redis) => (client as Redis & Scripts)[name](...args) as Promise<Reply<Name>>
    return { reply: await this.#deps.connection.ask(run) }
  }

  /** As `write`, but also while too few replicas are connected: then it is done, with `unconfirmed`. */
  async writeAnyway<Name extends keyof Scripts>(
    name: Name,
    args: readonly (string | number)[],
  ): Promise<{ reply: Reply<Name>; unconfirmed?: SpillwayError }> {
    if (!(await this.refusal())) return await this.write(name, args)
    return { ...(await this.write(name, args, false)), unconfirmed: this.#unconfirmed(0) }
  }

  async #writeAndWait<Name extends keyof Scripts>(
    name: Name,
    args: readonly (string | number)[],
  ): Promise<{ reply: Reply<Name>; unconfirmed?: SpillwayError }> {
    const server = await this.#deps.server()
    const missing = this.#missing(server)
    if (missing) throw missing
    const lane = this.#lane()
    lane.calls += 1
    try {
      const { reply, confirmed } = await lane.connection.ask((client) => this.#both(client, waitOf(server), name, args))
      return this.#isEnough(confirmed, waitOf(server))
        ? { reply }
        : { reply, unconfirmed: this.#unconfirmed(confirmed) }
    } finally {
      lane.calls -= 1
    }
  }

  /** Sends the script and the WAIT together: both cost one round trip. `confirmed`: by how many replicas; a text: why WAIT failed. */
  async #both<Name extends keyof Scripts>(
    client: Redis,
    wait: Wait,
    name: Name,
    args: readonly (string | number)[],
  ): Promise<{ reply: Reply<Name>; confirmed: number | string }> {
    const { lua, hash, keys } = scriptNamed(name)
    const send = (command: string, script: string) =>
      Promise.allSettled([client.call(command, script, keys, ...args), this.#wait(client, wait, waitMs)])
    // Not through the client's command, which sends an unknown script again by itself: behind the WAIT, and nothing would be waited for.
    let [script, waited] = await send('EVALSHA', hash)
    if (script.status === 'rejected' && String(script.reason?.message).startsWith('NOSCRIPT')) {
      ;[script, waited] = await send('EVAL', lua)
    }
    if (script.status === 'rejected') throw script.reason
    const confirmed = waited.status === 'fulfilled' ? waited.value : codeOf(waited.reason)
    return { reply: script.value as Reply<Name>, confirmed }
  }

  async #wait(client: Redis, wait: Wait, timeoutMs: number): Promise<number> {
    const { replicas } = this.#options
    if (wait === 'WAIT') return Number(await client.call('WAIT', replicas, timeoutMs))
    // WAITAOF asks the replicas at once, when they have not written yet what comes with the question. They answer next time, a second later,
    // unless they are asked again: so WAIT goes before it.
    const [, [, confirmed]] = (await Promise.all([
      client.call('WAIT', replicas, timeoutMs / 2),
      client.call('WAITAOF', 1, replicas, timeoutMs),
    ])) as [number, [number, number]]
    return confirmed
  }

  /** Logs the first write that was not confirmed, and the first one after it that was. */
  #isEnough(confirmed: number | string, wait: Wait): boolean {
    const { replicas, onUnconfirmed } = this.#options
    const isEnough = typeof confirmed === 'number' && confirmed >= replicas
    if (!isEnough) {
      this.#unconfirmedCalls += 1
      onUnconfirmed()
    }
    if (isEnough === this.#confirmed) return isEnough
    this.#confirmed = isEnough
    const { log } = this.#deps
    const fields = { command: wait, confirmed, replicas }
    const advice = wait === 'WAITAOF' ? '; it needs "appendonly yes" and "appendfsync always" in the replicas, too' : ''
    if (isEnough) log.info(fields, 'replicas confirm saves again')
    else log.warn(fields, `replicas did not confirm saves in time: they are not acknowledged${advice}`)
    return isEnough
  }

  #unconfirmed(confirmed: number | string): SpillwayError {
    const { replicas } = this.#options
    const found = typeof confirmed === 'number' ? `${confirmed} of ${replicas} replicas` : `no replica (${confirmed})`
    return new SpillwayError(
      'OUTCOME_UNKNOWN',
      `The queue's primary has done it, but ${found} confirmed it in time: a failover may undo it.`,
      { retryAfterMs },
    )
  }

  /** The connection with the fewest calls under way. */
  #lane(): Lane {
    const { connection, open } = this.#deps
    if (this.#lanes.length === 0) {
      this.#lanes = Array.from({ length: connectionCount }, () => ({ connection: open(), calls: 0 }))
      for (const lane of this.#lanes) lane.connection.onReady(() => load(lane.connection.client))
    }
    const ready = this.#lanes.filter((lane) => lane.connection.ready)
    return ready.length === 0 ? { connection, calls: 0 } : ready.reduce((a, b) => (b.calls < a.calls ? b : a))
  }

  #missing(server: ServerState | undefined): SpillwayError | undefined {
    const { replicas } = this.#options
    if (server?.replicas === undefined || server.replicas >= replicas) return undefined
    return new SpillwayError(
      'QUEUE_UNAVAILABLE',
      `The queue's Redis has ${server.replicas} of the ${replicas} replicas that must have a save. Nothing was changed; try again.`,
      { retryAfterMs },
    )
  }

  /**
   * Waits until replicas have what the server has now, at most a second, and not at all while too few are connected. Rejects as
   * RedisConnection.ask does.
   */
  async settle(connection: RedisConnection): Promise<void> {
    if (!this.wanted || this.#missing(await this.#deps.server())) return
    await connection.ask((client) =>
      // A full server refuses the SET: then it waits for what the connection has written before.
      Promise.all([client.set(this.#options.fence, '').catch(() => {}), this.#wait(client, 'WAIT', waitMs)]),
    )
  }

  /** Why nothing can be written now; undefined if nothing is known to be in the way. */
  async refusal(): Promise<SpillwayError | undefined> {
    return this.wanted ? this.#missing(await this.#deps.server()) : undefined
  }

  /** Rejects, with OUTCOME_UNKNOWN or QUEUE_UNAVAILABLE, unless enough replicas have what the server has now. */
  async confirm(): Promise<void> {
    if (!this.wanted) return
    const server = await this.#deps.server()
    const missing = this.#missing(server)
    if (missing) throw missing
    const confirmed = await this.#lane().connection.ask((client) => this.#fence(client, waitOf(server), waitMs))
    if (!this.#isEnough(confirmed, waitOf(server))) throw this.#unconfirmed(confirmed)
  }

  async #fence(client: Redis, wait: Wait, timeoutMs: number): Promise<number> {
    const [, confirmed] = await Promise.all([client.set(this.#options.fence, ''), this.#wait(client, wait, timeoutMs)])
    return confirmed
  }

  /** Writes, and waits for the replicas. As Queue.probe. */
  async probe(): Promise<string | undefined> {
    if (!this.wanted) return undefined
    const server = await this.#deps.server()
    if (this.#missing(server)) return 'REPLICAS'
    this.#probing ??= this.#deps.open()
    const connection = this.#probing.ready ? this.#probing : this.#deps.connection
    return await connection.probe(async (client) => {
      const confirmed = await this.#fence(client, waitOf(server), probeMs)
      return confirmed < this.#options.replicas ? 'REPLICAS' : undefined
    })
  }

  /** For QueueStatus. */
  stateOf({ replicas }: ServerState): { replicas?: ReplicaState } {
    if (!this.wanted) return {}
    return {
      replicas: { required: this.#options.replicas, connected: replicas, unconfirmed: this.#unconfirmedCalls },
    }
  }

  /** Logs which command waits, and when replicas are missing or back. */
  logServer(server: ServerState | undefined): void {
    if (!this.wanted || !server) return
    const { replicas } = this.#options
    const { replicas: connected } = server
    const isMissing = this.#missing(server) !== undefined
    const state = isMissing ? 'missing' : waitOf(server)
    if (state === this.#lastLogged) return
    this.#lastLogged = state
    const fields = { connected, replicas }
    if (isMissing) {
      this.#deps.log.warn(
        fields,
        `the queue's Redis has ${connected} connected replicas, and QUEUE_REPLICAS=${replicas} asks for ${replicas}: saves are refused ` +
          'until they are connected. Start them with "replicaof", or lower QUEUE_REPLICAS',
      )
    } else this.#deps.log.info({ ...fields, command: state }, 'saves are acknowledged when replicas have them')
  }

  close(): void {
    for (const { connection } of this.#lanes) connection.close()
    this.#probing?.close()
  }
}

/** So that the first call does not wait twice. Without the right to it, or after SCRIPT FLUSH, a call sends its script by itself. */
function load(client: Redis): void {
  for (const name of ['spillEnqueue', 'spillRetry', 'spillReplace', 'spillDiscard', 'spillPause'] as const) {
    client.call('SCRIPT', 'LOAD', scriptNamed(name).lua).catch(() => {})
  }
}

/** WAITAOF only where the primary itself writes to its disk at once: under everysec it would take up to a second. */
function waitOf(server: ServerState | undefined): Wait {
  return server?.hasWaitAof && server.durability === 'FSYNC' ? 'WAITAOF' : 'WAIT'
}

/** The first word of Redis' error; CLOSED if the connection broke. */
function codeOf(error: Error): string {
  return error.name === 'ReplyError' ? error.message.split(' ', 1)[0]! : 'CLOSED'
}
