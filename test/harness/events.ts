/** Events made for the log itself, where a test needs more of them than a database would like to write. */
import { randomUUID } from 'node:crypto'
import type { KnownEvent } from '../../src/events/events.ts'

/** A `saved` event with a content of about this many bytes, which begins with its number. */
export function largeEvent(number: number, bytes = 50_000): KnownEvent {
  const now = new Date()
  return {
    type: 'saved',
    content: { id: randomUUID(), content: `${number} ${'x'.repeat(bytes)}`, createdAt: now, savedAt: now },
  }
}
