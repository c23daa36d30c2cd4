/**
 * Content: the one thing Spillway saves out of the box. What is particular to it stands in three places: here (its columns and its
 * checks), in prisma/ (its table), and in server/content.ts (its GraphQL type). Put a model of your own beside it there.
 */
export interface Content {
  /** A lower-case UUID. */
  id: string
  content: string
  /** When the queue accepted it. */
  createdAt: Date
  /** When the row was written. */
  savedAt: Date
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** The id in the one form it is kept in (lower case), or undefined where it is no UUID. */
export function parseId(id: unknown): string | undefined {
  if (typeof id !== 'string') return undefined
  const lower = id.toLowerCase()
  return uuid.test(lower) ? lower : undefined
}

/** What is wrong with a content, said to the person who sent it; undefined when nothing is. */
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
