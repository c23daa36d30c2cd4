/** The part of a logger that Spillway uses: fields first, then the message. pino implements it. */
export interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  /** The number of lines that could not be written; absent if nothing counts them. */
  dropped?(): number
}
