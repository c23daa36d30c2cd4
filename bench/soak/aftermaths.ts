/** Injects the faults, one after the other, and notes what follows each of them. */
import type { Aftermath } from './faults.ts'
import { faults } from './faults.ts'
import type { Load } from './load.ts'
import type { System } from './system.ts'

export class Aftermaths {
  readonly all: Aftermath[] = []
  readonly #system: System
  readonly #load: Load
  /** A queue with fewer entries is what the load alone makes. */
  readonly #shallow: number
  #repeatedBefore = 0
  #under: Promise<void> = Promise.resolve()
  #isUnderWay = false

  constructor(system: System, load: Load, rate: number) {
    this.#system = system
    this.#load = load
    this.#shallow = rate
  }

  /** Begins the next fault, and ends the account of the one before, which is returned. */
  next(at: number): Aftermath | undefined {
    const before = this.end()
    const { name, inject } = faults[this.all.length % faults.length]!
    this.#repeatedBefore = this.#load.repeated
    this.all.push({ name, at, pausedMs: 0, repeated: 0, deepest: 0, emptyAfter: undefined })
    this.#isUnderWay = true
    this.#under = inject(this.#system).finally(() => {
      this.#isUnderWay = false
    })
    // It is thrown by `settled`.
    this.#under.catch(() => {})
    return before
  }

  /** Ends the account of the last fault. */
  end(): Aftermath | undefined {
    const last = this.all.at(-1)
    const pausedMs = this.#load.takePauseMs()
    if (!last) return undefined
    last.pausedMs = pausedMs
    last.repeated = this.#load.repeated - this.#repeatedBefore
    return last
  }

  /** Called every second with the depth of the queue. */
  look(at: number, depth: number | undefined): void {
    const last = this.all.at(-1)
    if (!last || depth === undefined) return
    last.deepest = Math.max(last.deepest, depth)
    if (depth >= this.#shallow || this.#isUnderWay) last.emptyAfter = undefined
    else last.emptyAfter ??= at - last.at
  }

  /** Resolves when nothing is broken any more. */
  settled(): Promise<void> {
    return this.#under
  }
}
