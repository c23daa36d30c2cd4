/**
 * What is open, and the signal that closing began. Each thing is added in the step that opens it, and closed in reverse order, once; one that
 * cannot be closed does not keep the others open.
 */
export class Closing {
  readonly #controller = new AbortController()
  readonly #stack = new AsyncDisposableStack()
  readonly #stop: AbortSignal | undefined
  #closed: Promise<void> | undefined

  /** `stop` aborts the start: the next `add` throws. Once all is open, closing is for whoever opened it. */
  constructor(stop?: AbortSignal) {
    this.#stop = stop
    stop?.addEventListener('abort', () => this.#controller.abort(stop.reason), { once: true })
    stop?.throwIfAborted()
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  add(close: () => unknown): void {
    this.#stack.defer(async () => void (await close()))
    this.#stop?.throwIfAborted()
  }

  close(): Promise<void> {
    this.#controller.abort()
    this.#closed ??= this.#stack.disposeAsync()
    return this.#closed
  }
}
