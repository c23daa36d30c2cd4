/**
 * The documents of open subscriptions. A compiled document takes a hundred times the bytes of its text, and stays in memory while a subscription
 * uses it, whatever the cache of documents holds. Invariant: each is counted once, however many subscriptions use it, and a subscription
 * whose document does not fit is refused.
 */
import type { Account } from '../app/bytes.ts'
import type { Document } from './documents.ts'

export class OpenDocuments {
  readonly #account: Account
  readonly #uses = new Map<Document, number>()

  constructor(account: Account) {
    this.#account = account
  }

  /** Counts a use until the returned function is called, which may be called twice. Throws OVERLOADED. */
  enter(document: Document): () => void {
    const uses = this.#uses.get(document) ?? 0
    if (uses === 0) this.#account.hold(document.bytes, document.bytes)
    this.#uses.set(document, uses + 1)
    let open = true
    return () => {
      if (!open) return
      open = false
      this.#leave(document)
    }
  }

  #leave(document: Document): void {
    const uses = this.#uses.get(document)! - 1
    if (uses > 0) {
      this.#uses.set(document, uses)
      return
    }
    this.#uses.delete(document)
    this.#account.release(document.bytes)
  }
}
