/**
 * Heartbeats of streams. They keep connections open, and give each client the cursor of its feed where the feed waits at the end of the log, so
 * that the cursor of a quiet subscription does not expire. Invariant: a cursor is sent only after all events before it.
 */
import type { Stream } from './streams.ts'

export const heartbeatMs = 12_000
/** Of the cursors in one ping of a WebSocket, which its client sends back, in characters; the others are in the next one. */
const maxCursorsLength = 4_096

const comment = Buffer.from(':\n\n')
/** Most feeds wait at the same place, so that one buffer serves them all. */
let latest = { cursor: '', frame: comment }

/** What a client knows of its stream. */
export interface Known {
  stream: Stream
  /** The cursor that was sent to the client last. */
  sent: string | undefined
}

/** The cursor that the client is to be sent, if it has changed. */
export function movedCursor({ stream, sent }: Known): string | undefined {
  const { end } = stream
  return end === sent ? undefined : end
}

/** A heartbeat of Server-Sent Events. An id without data sets EventSource's last event id, and is no event. */
export function heartbeatFrame(known: Known): Buffer {
  const cursor = movedCursor(known)
  // The same text for all streams, also where it has not changed.
  known.sent = known.stream.end ?? known.sent
  if (cursor === undefined) return comment
  if (latest.cursor !== cursor) latest = { cursor, frame: Buffer.from(`id: ${cursor}\n\n`) }
  return latest.frame
}

/** The subscriptions of a WebSocket, by the ids of their operations. */
export class SocketCursors {
  readonly #known = new Map<string, Known>()
  #unanswered = 0

  /** Call `close` of the result at the end of the subscription. */
  open(id: string, stream: Stream): Known & { close(): void } {
    const known = {
      stream,
      sent: undefined,
      close: () => {
        if (this.#known.get(id) === known) this.#known.delete(id)
      },
    }
    this.#known.set(id, known)
    return known
  }

  /** A ping of graphql-transport-ws with the cursors that have changed, by the ids of their operations; undefined if none has. */
  ping(): string | undefined {
    const cursors = this.#take()
    if (!cursors) return undefined
    this.#unanswered += 1
    return JSON.stringify({ type: 'ping', payload: { cursors } })
  }

  /** Whether a pong answers such a ping. Call once for each pong. */
  isAnswer(): boolean {
    if (this.#unanswered === 0) return false
    this.#unanswered -= 1
    return true
  }

  #take(): Record<string, string> | undefined {
    let length = 0
    const cursors = new Map<string, string>()
    for (const [id, known] of this.#known) {
      const cursor = movedCursor(known)
      if (cursor === undefined) continue
      const more = JSON.stringify(id).length + cursor.length
      if (length + more > maxCursorsLength) continue
      length += more
      cursors.set(id, cursor)
    }
    if (cursors.size === 0) return undefined
    for (const [id, cursor] of cursors) {
      const known = this.#known.get(id)!
      known.sent = cursor
      // Behind the others, which are first in the next ping.
      this.#known.delete(id)
      this.#known.set(id, known)
    }
    return Object.fromEntries(cursors)
  }
}
