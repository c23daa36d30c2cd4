/**
 * Turns of reads. The models share the connections of one pool, and a read of a table that is locked keeps its connection until it times
 * out. Invariant: the reads of one model leave some connections to the others.
 */
import { SpillwayError } from '../model/error.ts'
import type { Model } from '../model/model.ts'

/** How long a read waits for its turn. If no read of the model has ended for this long, another one does not wait at all. */
const waitMs = 2_000

interface Line {
  running: number
  waiting: Set<() => void>
  /** performance.now() of the last end of a read, or of the first begin. */
  movedAt: number
}

export class ReadTurns {
  /** Reads of one model at once. */
  readonly #most: number
  readonly #lines = new Map<Model, Line>()

  constructor(most: number) {
    this.#most = most
  }

  /** Throws STORE_UNAVAILABLE if the turn does not come in time. */
  async run<T>(model: Model, read: () => Promise<T>): Promise<T> {
    const line = this.#lineOf(model)
    if (line.running === 0) line.movedAt = performance.now()
    if (line.running < this.#most) line.running += 1
    else await turnOf(line)
    try {
      return await read()
    } finally {
      line.movedAt = performance.now()
      const [next] = line.waiting
      // The turn is handed over.
      if (next) next()
      else line.running -= 1
    }
  }

  #lineOf(model: Model): Line {
    let line = this.#lines.get(model)
    if (!line) {
      line = { running: 0, waiting: new Set(), movedAt: 0 }
      this.#lines.set(model, line)
    }
    return line
  }
}

function turnOf(line: Line): Promise<void> {
  if (performance.now() - line.movedAt > waitMs) return Promise.reject(tooLate())
  return new Promise((resolve, reject) => {
    const enter = () => {
      clearTimeout(timer)
      line.waiting.delete(enter)
      resolve()
    }
    const timer = setTimeout(() => {
      line.waiting.delete(enter)
      reject(tooLate())
    }, waitMs)
    line.waiting.add(enter)
  })
}

function tooLate(): SpillwayError {
  return new SpillwayError(
    'STORE_UNAVAILABLE',
    'the database does not answer reads of this model in time; saves go on',
    {
      retryAfterMs: waitMs,
    },
  )
}
