/**
 * Events as text. Invariant: decoding never throws, and every decoded event is whole. An event of another release (another type, a later
 * version, a model that this release does not have) becomes `unknown`; a text with a damaged event decodes to undefined.
 *
 * Version 2: `{ v: 2, type: 'saved', model, row }`, `row` as model.ts' rowText. Version 1: `{ v: 1, type: 'failed', id, model?, failure }`,
 * dates as milliseconds since 1970 (release 0.1 wrote no model, and reads events with one); and `{ v: 1, type: 'saved', content }`, which release 0.1 wrote, also without `v`.
 */
import type { Failure } from '../model/error.ts'
import { type Models, readRow, rowText } from '../model/model.ts'
import { isObject, parseJson, readDate } from '../model/parse.ts'
import type { Event, KnownEvent } from './events.ts'

export function encodeEvents(events: readonly KnownEvent[]): string {
  return `[${events.map(encodeEvent).join(',')}]`
}

function encodeEvent(event: KnownEvent): string {
  if (event.type === 'saved')
    return `{"v":2,"type":"saved","model":"${event.model.name}","row":${rowText(event.model, event.row)}}`
  return JSON.stringify({ v: 1, ...event, failure: { ...event.failure, failedAt: +event.failure.failedAt } })
}

/** The events of a text of encodeEvents; undefined where it is damaged. */
export function decodeEvents(text: string, models: Models): Event[] | undefined {
  return readEvents(parseJson(text), models)
}

/** The events of a parsed text of encodeEvents; undefined where it is damaged. */
export function readEvents(parsed: unknown, models: Models): Event[] | undefined {
  if (!Array.isArray(parsed)) return undefined
  const events: Event[] = []
  for (const item of parsed) {
    const event = readEvent(item, models)
    if (!event) return undefined
    events.push(event)
  }
  return events
}

function readEvent(item: unknown, models: Models): Event | undefined {
  if (!isObject(item)) return undefined
  const { v = 1, type } = item
  if (type === 'saved' && (v === 1 || v === 2)) {
    // Version 1 names the row, and not the model.
    const first = v === 1 ? [...models.values()].find(({ names }) => isObject(item[names.one])) : undefined
    const name = v === 1 ? first?.name : item.model
    const model = typeof name === 'string' ? models.get(name) : undefined
    if (!model)
      return typeof name === 'string' || (v === 1 && Object.values(item).some(isObject))
        ? { type: 'unknown' }
        : undefined
    const row = readRow(model, v === 1 ? item[model.names.one] : item.row)
    if (row === 'newer') return v === 1 ? undefined : { type: 'unknown' }
    return row && { type, model, row }
  }
  if (v === 1 && type === 'failed') {
    const failure = readFailure(item.failure)
    if (!failure || typeof item.id !== 'string') return undefined
    return { type, id: item.id, ...(typeof item.model === 'string' ? { model: item.model } : {}), failure }
  }
  return (v !== 1 && v !== 2) || typeof type === 'string' ? { type: 'unknown' } : undefined
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
