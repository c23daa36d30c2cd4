/** Lets a number of callers pass in each turn of the event loop, in the order in which they came; others of the process have their time between. */
export class Pace {
  readonly #mostInTurn: number
  #passed = 0
  #waiting: (() => void)[] = []
  #isScheduled = false

  constructor(mostInTurn: number) {
    this.#mostInTurn = mostInTurn
  }

  /** Undefined: at once. */
  pass(): Promise<void> | undefined {
    this.#schedule()
    if (this.#passed === this.#mostInTurn) return new Promise((resolve) => this.#waiting.push(resolve))
    this.#passed += 1
    return undefined
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      const next = this.#waiting.splice(0, this.#mostInTurn)
      this.#passed = next.length
      if (next.length > 0) this.#schedule()
      for (const resolve of next) resolve()
    })
  }
}
