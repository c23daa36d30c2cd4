/**
 * Slots for statements: at most `concurrency` run at once, for all models together. The models take turns. A model whose table takes no
 * rows has one slot at most, and leaves the last free slot alone for a while after each of its statements, if other models have used the
 * slots lately: its statements may wait for a lock until they fail, and the others get most of the time all the same.
 */
export interface Caller {
  /** Whether the table takes no rows. */
  readonly failing: boolean
}

interface Use {
  running: number
  waiting: { start: () => void; order: number }[]
  /** performance.now() of the last end of a statement, and until when the caller rests if it is failing. */
  usedAt: number
  restsUntil: number
}

/** A failing caller rests this many times as long as its last statement took, and at most `mostRestMs`. */
const restFactor = 2
const mostRestMs = 10_000
/** A caller that used a slot within this time may do so again. */
const latelyMs = 30_000

export class Slots {
  readonly #concurrency: number
  /** After it aborts, no caller rests. */
  readonly #stopping: AbortSignal | undefined
  readonly #uses = new Map<Caller, Use>()
  #running = 0
  #order = 0
  #timer: NodeJS.Timeout | undefined

  constructor(concurrency: number, { stopping }: { stopping?: AbortSignal } = {}) {
    this.#concurrency = concurrency
    this.#stopping = stopping
    stopping?.addEventListener('abort', () => this.next(), { once: true })
  }

  /** Runs `act` as soon as a slot is free. */
  async run<T>(caller: Caller, act: () => Promise<T>): Promise<T> {
    const use = this.#useOf(caller)
    await new Promise<void>((start) => {
      this.#order += 1
      use.waiting.push({ start, order: this.#order })
      this.next()
    })
    const startedAt = performance.now()
    try {
      return await act()
    } finally {
      const now = performance.now()
      this.#running -= 1
      use.running -= 1
      use.usedAt = now
      use.restsUntil = now + Math.min((now - startedAt) * restFactor, mostRestMs)
      this.next()
    }
  }

  /** Starts what may start: also called when a table takes rows again. */
  next(): void {
    clearTimeout(this.#timer)
    for (;;) {
      const next = this.#nextUse()
      if (!next) return
      this.#running += 1
      next.running += 1
      next.waiting.shift()!.start()
    }
  }

  /** The caller with the fewest slots; of equal ones, the one that waits longest. */
  #nextUse(): Use | undefined {
    if (this.#running >= this.#concurrency) return undefined
    let next: Use | undefined
    let rest = Number.POSITIVE_INFINITY
    for (const [caller, use] of this.#uses) {
      if (use.waiting.length === 0 || (caller.failing && use.running > 0)) continue
      const restMs = caller.failing ? this.#restMs(use) : 0
      if (restMs > 0) rest = Math.min(rest, restMs)
      else if (!next || isBefore(use, next)) next = use
    }
    if (!next && rest < Number.POSITIVE_INFINITY) this.#timer = setTimeout(() => this.next(), rest)
    return next
  }

  #restMs(use: Use): number {
    if (this.#stopping?.aborted || this.#running < this.#concurrency - 1) return 0
    const now = performance.now()
    const areOthers = [...this.#uses].some(
      ([caller, other]) =>
        other !== use &&
        !caller.failing &&
        (other.running > 0 || other.waiting.length > 0 || now - other.usedAt < latelyMs),
    )
    return areOthers ? use.restsUntil - now : 0
  }

  #useOf(caller: Caller): Use {
    let use = this.#uses.get(caller)
    if (!use) {
      use = {
        running: 0,
        waiting: [],
        usedAt: Number.NEGATIVE_INFINITY,
        restsUntil: Number.NEGATIVE_INFINITY,
      }
      this.#uses.set(caller, use)
    }
    return use
  }
}

function isBefore(one: Use, other: Use): boolean {
  if (one.running !== other.running) return one.running < other.running
  return one.waiting[0]!.order < other.waiting[0]!.order
}
