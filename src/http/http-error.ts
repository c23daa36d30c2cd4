/** An error that only HTTP has: a status of its own, and the headers that go with it. */
import type { PublicError } from './errors.ts'

export class HttpError extends Error {
  readonly error: PublicError
  readonly headers: Record<string, string>
  constructor(status: number, message: string, headers: Record<string, string> = {}) {
    super(message)
    this.error = { message, status, code: 'BAD_USER_INPUT' }
    this.headers = headers
  }
}
