/** Events made for the log itself, where a test needs more of them than a database would like to write. */
import type { KnownEvent } from '../../src/events/events.ts'
import { Content, contentRow } from './contents.ts'

/** A `saved` event with a content of about this many bytes, which begins with its number. */
export function largeEvent(number: number, bytes = 50_000): KnownEvent {
  return {
    type: 'saved',
    model: Content,
    row: contentRow(`${number} ${'x'.repeat(bytes)}`),
  }
}
