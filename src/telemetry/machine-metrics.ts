/**
 * The metrics of all API processes of a machine as one text. Invariant: a counter never becomes smaller, because the last numbers of a
 * process that has ended, or does not answer, still count: to Prometheus a smaller counter would be a restart, and the whole rest an increase.
 */
import { AggregatorRegistry, type Registry } from 'prom-client'
import type { Metrics, Sample } from './metrics.ts'

/** A process of the machine. */
export interface Source {
  /** Resolves to its metrics; rejects if they do not arrive in time. */
  ask(): Promise<Sample[]>
}

export class MachineMetrics {
  readonly #own: Metrics
  /** What each process told last. */
  readonly #last = new Map<Source, Sample[]>()
  /** The counters of the processes that have ended. */
  #ended: Sample[] = []
  #ending: Promise<void> = Promise.resolve()
  #silent = 0

  /** `own`: of the primary. */
  constructor(own: Metrics) {
    this.#own = own
  }

  /** How many processes did not answer the last time. */
  get silent(): number {
    return this.#silent
  }

  async text(sources: readonly Source[]): Promise<string> {
    const silent = new Set<Source>()
    const asked = sources.map(async (source) => {
      try {
        this.#last.set(source, await source.ask())
      } catch {
        silent.add(source)
      }
    })
    await Promise.all(asked)
    this.#silent = silent.size
    const own = await this.#own.samples()
    await this.#ending
    const told = [...this.#last].map(([source, samples]) => (silent.has(source) ? samples.filter(onlyGrows) : samples))
    return await sum([own, ...told, this.#ended]).metrics()
  }

  /** Keeps the counters of a process that has ended. `last`: what it told at its end, if it did. */
  end(source: Source, last?: Sample[]): void {
    this.#ending = this.#ending.then(async () => {
      const counters = (last ?? this.#last.get(source) ?? []).filter(onlyGrows)
      this.#ended = await sum([this.#ended, counters]).getMetricsAsJSON()
      this.#last.delete(source)
    })
  }
}

function sum(samples: Sample[][]): Registry {
  return AggregatorRegistry.aggregate(samples)
}

/** prom-client names the types; its declarations number them. */
const onlyGrows = ({ type }: Sample) => ['counter', 'histogram'].includes(String(type))
