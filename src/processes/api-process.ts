/** One API process as the primary sees it. */
import cluster, { type Worker } from 'node:cluster'
import type { LocalCounts } from '../http/client-limits.ts'
import type { Source } from '../telemetry/machine-metrics.ts'
import type { Sample } from '../telemetry/metrics.ts'
import { Channel } from './channel.ts'
import { argsOf, type Place, type Ready } from './member.ts'

/** How long a scrape waits for a process. */
const samplesWithinMs = 1_000
/** How long the primary waits, after a process has ended, for what it told. */
const disconnectsWithinMs = 300

/** How a process ended: its exit code or a signal. */
export type End = number | NodeJS.Signals

export class ApiProcess implements Source {
  readonly place: Place
  readonly channel: Channel
  /** Resolves when it listens; to undefined if it ends before that. */
  readonly listening: Promise<Ready | undefined>
  /** Resolves when it has ended, and all that it told has been received. */
  readonly ended: Promise<End>
  /** Whether it has as many connections as it may. */
  isFull = false
  isListening = false
  /** Undefined: it has not listened. */
  listensSince: number | undefined
  isStopping = false
  /** What it told at its end. */
  lastSamples: Sample[] | undefined
  onFull: () => void = () => {}
  readonly #worker: Worker
  readonly #counts: LocalCounts
  /** Its open streams, by client. */
  readonly #streams = new Map<string, number>()
  #hasEnded = false

  /** Starts it. `counts`: of the machine. */
  constructor(place: Place, counts: LocalCounts) {
    this.place = place
    this.#counts = counts
    cluster.setupPrimary({ args: argsOf(place) })
    this.#worker = cluster.fork()
    this.channel = new Channel(this.#worker)
    // Under `node --watch`, it reports the files that it imports to its parent; the watcher is the parent of the primary.
    this.#worker.on('message', (message: object) => {
      if ('watch:import' in message || 'watch:require' in message) process.send?.(message)
    })
    this.ended = endOf(this.#worker).then((end) => {
      this.#end()
      return end
    })
    const ready = new Promise<Ready>((resolve) => this.channel.on('ready', resolve))
    this.listening = Promise.race([ready, this.ended.then(() => undefined)])
    void ready.then(() => {
      this.isListening = !this.#hasEnded
      this.listensSince = performance.now()
    })
    this.channel.on('full', (isFull: boolean) => {
      this.isFull = isFull
      this.onFull()
    })
    this.channel.on('last-samples', (samples: Sample[]) => {
      this.lastSamples = samples
    })
    this.channel.on('requests', (clients: string[]) => Promise.all(clients.map((client) => counts.request(client))))
    this.channel.on('enter', (client: string) => this.#enter(client))
    this.channel.on('leave', (client: string) => this.#leave(client))
  }

  get pid(): number | undefined {
    return this.#worker.process.pid
  }

  ask(): Promise<Sample[]> {
    return this.channel.ask('samples', undefined, samplesWithinMs)
  }

  /** Lets it finish what it has begun, and resolves when it has ended. */
  async stop(): Promise<End> {
    this.isStopping = true
    this.#worker.process.kill('SIGTERM')
    return await this.ended
  }

  kill(): void {
    this.#worker.process.kill('SIGKILL')
  }

  async #enter(client: string): Promise<boolean> {
    if (!(await this.#counts.enter(client))) return false
    this.#streams.set(client, (this.#streams.get(client) ?? 0) + 1)
    if (this.#hasEnded) this.#leave(client)
    return true
  }

  #leave(client: string): void {
    const open = this.#streams.get(client)
    if (open === undefined) return
    const left = open - 1
    if (left > 0) this.#streams.set(client, left)
    else this.#streams.delete(client)
    this.#counts.leave(client)
  }

  #end(): void {
    this.#hasEnded = true
    this.isListening = false
    for (const [client, streams] of [...this.#streams]) for (let i = 0; i < streams; i++) this.#leave(client)
  }
}

/** A connection that the primary has accepted. */
interface Offer {
  close(): void
}

/** A message of node:cluster to or from an API process. */
interface ClusterMessage {
  act?: string
  ack?: number
}

/**
 * If a process ends before it has confirmed a connection that was sent to it, Node waits for the confirmation for ever: it neither emits
 * `disconnect` nor closes the connection, whose client would wait, too. Returns what closes it.
 */
function watchOffers({ process }: Worker): () => void {
  let offered: Offer | undefined
  const send = process.send.bind(process) as (message: ClusterMessage, handle?: Offer, ...more: never[]) => boolean
  process.send = ((message: ClusterMessage, handle?: Offer, ...more: never[]) => {
    if (message.act === 'newconn') offered = handle
    return send(message, handle, ...more)
  }) as typeof process.send
  process.on('internalMessage' as 'message', (message) => {
    if ((message as ClusterMessage).ack !== undefined) offered = undefined
  })
  return () => offered?.close()
}

async function endOf(worker: Worker): Promise<End> {
  const closeOffered = watchOffers(worker)
  const disconnected = new Promise<void>((resolve) => worker.once('disconnect', resolve))
  const end = await new Promise<End>((resolve) => {
    worker.once('exit', (code: number | null, signal: NodeJS.Signals | null) => resolve(signal ?? code ?? 1))
    worker.once('error', () => {
      // It could not be started.
      if (worker.process.pid === undefined) resolve(1)
    })
  })
  if (worker.process.pid === undefined) return end
  const timer = setTimeout(() => worker.process.emit('disconnect'), disconnectsWithinMs)
  await disconnected
  clearTimeout(timer)
  closeOffered()
  return end
}
