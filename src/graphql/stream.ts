/** A subscription as SSE and WebSocket serve it. */
import type { FormattedExecutionResult } from 'graphql'

/** Some results, and the same as frames of Server-Sent Events. */
export interface Batch {
  results: readonly FormattedExecutionResult[]
  frames: Buffer
}

export interface Stream {
  /** Where a client can resume now; undefined: nowhere. */
  readonly cursor: string | undefined
  /** Whether its end is one for the client, too: a feed goes on for as long as there is a server. */
  readonly completes: boolean
  /** The next results; waits for them. Undefined at the end. One call at a time. */
  next(): Promise<Batch | undefined>
  /** May be called twice. */
  close(): void
}

export function frameOf(result: FormattedExecutionResult): string {
  return `event: next\ndata: ${JSON.stringify(result)}\n\n`
}
