/** The part of a logger that the layers use: fields first, then the sentence. pino fits. */
export interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  /** Lines that could not be written so far; absent where nothing counts them. */
  dropped?(): number
}
