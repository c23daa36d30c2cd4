/**
 * Content: the model that Spillway saves. Three places define it: this file (its columns and checks), prisma/ (its table) and
 * graphql/content.ts (its GraphQL type).
 */
export interface Content {
  /** A lower-case UUID. */
  id: string
  content: string
  /** When it was enqueued. */
  createdAt: Date
  /** When the row was written. */
  savedAt: Date
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** The id in lower case, the one form that is stored, or undefined if it is no UUID. */
export function parseId(id: unknown): string | undefined {
  if (typeof id !== 'string') return undefined
  const lower = id.toLowerCase()
  return uuid.test(lower) ? lower : undefined
}

/** What is wrong with a content, for the client that sent it; undefined if nothing is. */
export function problemOf(content: unknown, maxBytes: number): string | undefined {
  if (typeof content !== 'string') return `content must be a string, got ${content === null ? 'null' : typeof content}`
  // A UTF-16 code unit is 1 to 3 bytes of UTF-8, so that most contents need not be measured.
  if (content.length * 3 > maxBytes) {
    const bytes = Buffer.byteLength(content)
    if (bytes > maxBytes) return `content is ${bytes} bytes of UTF-8; at most ${maxBytes} are allowed`
  }
  if (!content.isWellFormed()) {
    return 'content holds a lone surrogate, which is not Unicode text and cannot be stored unchanged; remove it or send the pair'
  }
  return undefined
}
