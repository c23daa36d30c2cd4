/** The machine as one of its API processes sees it: what it shares with the others, by way of the primary. */
import cluster, { type Worker } from 'node:cluster'
import type { ClientCounts } from '../http/client-limits.ts'
import type { OtherProcesses } from '../http/connection-limit.ts'
import { coalesce } from '../model/coalesce.ts'
import type { Sample } from '../telemetry/metrics.ts'
import { Channel } from './channel.ts'

/** The place of a process among those of its machine. The primary gives it on the command line, where `ps` shows it, too. */
export interface Place {
  /** From 1. */
  number: number
  of: number
}

const form = /^api-process=(\d+)\/(\d+)$/

export const argsOf = ({ number, of }: Place): string[] => [`api-process=${number}/${of}`]

function placeIn(args: readonly string[]): Place | undefined {
  const [, number, of] = form.exec(args.join(' ')) ?? []
  return number ? { number: Number(number), of: Number(of) } : undefined
}

/** An API process exits with it when another one in its place could not run, either. */
export const cannotRun = 3

/** What a process tells the primary when it listens. */
export interface Ready {
  url: string
  /** For the log. */
  implementations: object
}

/** Undefined where this process is the only one, or the primary. */
export function joinMachine(): Member | undefined {
  const place = cluster.isWorker ? placeIn(process.argv.slice(2)) : undefined
  return place && new Member(place, cluster.worker!)
}

export class Member implements OtherProcesses {
  readonly place: Place
  readonly counts: ClientCounts
  readonly #channel: Channel

  constructor(place: Place, worker: Worker) {
    this.place = place
    const channel = new Channel(worker)
    this.#channel = channel
    // The requests of one tick are one question.
    const count = coalesce<{ client: string }, number>((requests) =>
      channel.ask(
        'requests',
        requests.map(({ client }) => client),
      ),
    )
    this.counts = {
      request: (client) => count({ client }),
      enter: (client) => channel.ask('enter', client),
      leave: (client) => void channel.tell('leave', client),
    }
  }

  part(ofMachine: number): number {
    const { number, of } = this.place
    return Math.floor((ofMachine + number - 1) / of)
  }

  setFull(isFull: boolean): void {
    void this.#channel.tell('full', isFull)
  }

  onAllFull(listener: (areFull: boolean) => void): void {
    this.#channel.on('all-full', listener)
  }

  /** Call when the process listens. */
  ready(ready: Ready): void {
    void this.#channel.tell('ready', ready)
  }

  /** Answers the primary when it adds up the metrics. Returns what tells it the last numbers, before the process ends. */
  shareMetrics(samples: () => Promise<Sample[]>): () => Promise<void> {
    this.#channel.on('samples', samples)
    return async () => await this.#channel.tell('last-samples', await samples())
  }

  /** The metrics of all API processes. */
  metrics(): Promise<string> {
    return this.#channel.ask('metrics')
  }
}
