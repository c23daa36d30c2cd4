/** Events made for the log itself, where a test needs no database. */
import type { Event, KnownEvent } from '../../src/events/events.ts'
import { savedRows } from '../../src/events/topics.ts'
import { Content, type ContentRow, contentRow } from './contents.ts'

/** The topic of every saved content. */
export const contents = savedRows(Content)

/** A `saved` event of a row with this content. */
export function savedEvent(content: string, row: Partial<ContentRow> = {}): KnownEvent {
  return { type: 'saved', model: Content, row: contentRow(content, row) }
}

/** The content that an event of `savedEvent` has. */
export function contentOf(event: Event): string | undefined {
  return event.type === 'saved' ? (event.row as ContentRow).content : undefined
}

/** A `saved` event with a content of about this many bytes, which begins with its number. */
export function largeEvent(number: number, bytes = 50_000): KnownEvent {
  return savedEvent(`${number} ${'x'.repeat(bytes)}`)
}
