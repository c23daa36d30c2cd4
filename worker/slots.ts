/**
 * Slots for statements: at most `concurrency` run at once, for all models together. The models take turns, and a model whose table takes no
 * rows has one slot at most, so that its statements, which may wait for a lock until they fail, leave slots to the others.
 */
export interface Client {
  /** Whether the table takes no rows. */
  readonly failing: boolean
}

interface Waiting {
  client: Client
  start: () => void
}

export class Slots {
  readonly #concurrency: number
  #running: Client[] = []
  #waiting: Waiting[] = []

  constructor(concurrency: number) {
    this.#concurrency = concurrency
  }

  /** Runs `act` as soon as a slot is free. */
  async run<T>(client: Client, act: () => Promise<T>): Promise<T> {
    if (this.#waiting.length > 0 || !this.#mayStart(client)) {
      await new Promise<void>((start) => {
        this.#waiting.push({ client, start })
      })
    } else this.#running.push(client)
    try {
      return await act()
    } finally {
      this.#running.splice(this.#running.indexOf(client), 1)
      this.next()
    }
  }

  /** Starts what may start: also called when a table takes rows again. */
  next(): void {
    for (;;) {
      const running = (client: Client) => this.#running.filter((one) => one === client).length
      const able = this.#waiting.filter(({ client }) => this.#mayStart(client))
      // The client with the fewest slots; of equal ones, the one that waits longest.
      const [next] = able.sort((a, b) => running(a.client) - running(b.client))
      if (!next) return
      this.#waiting.splice(this.#waiting.indexOf(next), 1)
      this.#running.push(next.client)
      next.start()
    }
  }

  #mayStart(client: Client): boolean {
    if (this.#running.length >= this.#concurrency) return false
    return !client.failing || !this.#running.includes(client)
  }
}
