/**
 * Events as text. Invariant: decoding never throws, and every decoded event is whole. An event of another release (another type, a later
 * version) becomes `unknown`; a text with a damaged event decodes to undefined.
 *
 * Version 1: `{ v: 1, type: 'saved', content }` or `{ v: 1, type: 'failed', id, failure }`, dates as milliseconds since 1970. Release 0.1
 * wrote the same without `v`.
 */
import type { Content } from '../model/content.ts'
import type { Failure } from '../model/error.ts'
import { isObject, parseJson, readDate } from '../model/parse.ts'
import type { Event, KnownEvent } from './events.ts'

const version = 1

export function encodeEvents(events: readonly KnownEvent[]): string {
  return JSON.stringify(
    events.map((event) =>
      event.type === 'saved'
        ? {
            v: version,
            ...event,
            content: { ...event.content, createdAt: +event.content.createdAt, savedAt: +event.content.savedAt },
          }
        : { v: version, ...event, failure: { ...event.failure, failedAt: +event.failure.failedAt } },
    ),
  )
}

/** The events of a text of encodeEvents; undefined where it is damaged. */
export function decodeEvents(text: string): Event[] | undefined {
  return readEvents(parseJson(text))
}

/** The events of a parsed text of encodeEvents; undefined where it is damaged. */
export function readEvents(parsed: unknown): Event[] | undefined {
  if (!Array.isArray(parsed)) return undefined
  const events: Event[] = []
  for (const item of parsed) {
    const event = readEvent(item)
    if (!event) return undefined
    events.push(event)
  }
  return events
}

function readEvent(item: unknown): Event | undefined {
  if (!isObject(item)) return undefined
  const { v = version, type } = item
  if (v === version && type === 'saved') {
    const content = readContent(item.content)
    return content && { type, content }
  }
  if (v === version && type === 'failed') {
    const failure = readFailure(item.failure)
    return failure && typeof item.id === 'string' ? { type, id: item.id, failure } : undefined
  }
  return v !== version || typeof type === 'string' ? { type: 'unknown' } : undefined
}

function readContent(value: unknown): Content | undefined {
  if (!isObject(value)) return undefined
  const { id, content } = value
  const createdAt = readDate(value.createdAt)
  const savedAt = readDate(value.savedAt)
  if (typeof id !== 'string' || typeof content !== 'string' || !createdAt || !savedAt) return undefined
  return { id, content, createdAt, savedAt }
}

function readFailure(value: unknown): Failure | undefined {
  if (!isObject(value)) return undefined
  const { code, message, attempts } = value
  const failedAt = readDate(value.failedAt)
  if (typeof code !== 'string' || typeof message !== 'string' || !Number.isSafeInteger(attempts) || !failedAt) {
    return undefined
  }
  return { code: code as Failure['code'], message, attempts: attempts as number, failedAt }
}
