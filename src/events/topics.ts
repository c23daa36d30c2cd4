/**
 * Topics: the events that a feed takes. A topic is the saved rows of a model with certain values in a set of columns, or all failures.
 * Invariant: the events of an entry are grouped once for each set of columns in use, however many topics and feeds there are, and all feeds
 * of a topic get the same array.
 */
import { type Column, codecs } from '../model/columns.ts'
import { type Model, sizeOf, type Values } from '../model/model.ts'
import type { Narrowing } from '../model/narrow.ts'
import { type Cursor, formatCursor, type KnownEvent, type LogEntry, placeBefore } from './events.ts'

/** An event of the log for all feeds that take it: what each would compute of it is computed once. */
export class FeedEvent {
  /** The position behind this event: a client resumes with it. */
  readonly cursor: Cursor
  readonly event: KnownEvent
  #cursorText: string | undefined
  #size: number | undefined

  constructor(cursor: Cursor, event: KnownEvent) {
    this.cursor = cursor
    this.event = event
  }

  get cursorText(): string {
    this.#cursorText ??= formatCursor(this.cursor)
    return this.#cursorText
  }

  /** In bytes, roughly. */
  get size(): number {
    const { event } = this
    this.#size ??= event.type === 'saved' ? sizeOf(event.model, event.row) : event.failure.message.length
    return this.#size
  }
}

/** Of one model, or of all failures. Compared by identity. */
export interface ColumnSet {
  /** The model's name; undefined: failures. */
  readonly model: string | undefined
  readonly columns: readonly Column[]
}

/** Topics with the same set and key have the same events. */
export interface Topic {
  readonly set: ColumnSet
  /** The exact values of the columns. */
  readonly key: string
}

/** All failures, of every model. */
export const failures: Topic = { set: { model: undefined, columns: [] }, key: '' }

/** The saved rows of a model, narrowed. */
export function savedRows(model: Model, narrowing: Narrowing = {}): Topic {
  const set = setOf(model, Object.keys(narrowing))
  return { set, key: keyOf(set, narrowing)! }
}

/** Equal for topics with the same events. */
export function topicText({ set, key }: Topic): string {
  return [set.model ?? '', ...set.columns.map(({ name }) => name), key].join(' ')
}

const sets = new WeakMap<Model, Map<string, ColumnSet>>()

function setOf(model: Model, names: readonly string[]): ColumnSet {
  const known = sets.get(model) ?? new Map<string, ColumnSet>()
  sets.set(model, known)
  const columns = model.columns.filter(({ name }) => names.includes(name))
  const text = columns.map(({ name }) => name).join()
  const set = known.get(text) ?? { model: model.name, columns }
  known.set(text, set)
  return set
}

/** Undefined if a value is null: no topic has the row. */
function keyOf({ columns }: ColumnSet, values: Readonly<Values>): string | undefined {
  let key = ''
  for (const { name, type } of columns) {
    const value = values[name]
    if (value === null || value === undefined) return undefined
    // JSON texts that are joined by commas are told apart.
    key += `${codecs[type].text(value)},`
  }
  return key
}

type Groups = ReadonlyMap<string, readonly FeedEvent[]>

const noEvents: readonly FeedEvent[] = []
const noGroups: Groups = new Map()
const known = new WeakMap<LogEntry, EntryTopics>()

export function topicsOf(entry: LogEntry): EntryTopics {
  let topics = known.get(entry)
  if (!topics) {
    topics = new EntryTopics(entry)
    known.set(entry, topics)
  }
  return topics
}

/** The events of one entry by their topics. */
class EntryTopics {
  readonly #byModel = new Map<string | undefined, FeedEvent[]>()
  readonly #bySet = new Map<ColumnSet, Groups>()

  constructor(entry: LogEntry) {
    const before = placeBefore(entry)
    const { length } = entry.events
    for (const [i, event] of entry.events.entries()) {
      if (event.type === 'unknown') continue
      const cursor = i + 1 === length ? { position: entry.position, index: 0 } : { position: before, index: i + 1 }
      const model = event.type === 'saved' ? event.model.name : undefined
      const events = this.#byModel.get(model)
      const one = new FeedEvent(cursor, event)
      if (events) events.push(one)
      else this.#byModel.set(model, [one])
    }
  }

  /** The events of the topic; the same array at each call. */
  of({ set, key }: Topic): readonly FeedEvent[] {
    return this.by(set).get(key) ?? noEvents
  }

  /** By the keys of the set's topics. */
  by(set: ColumnSet): Groups {
    const events = this.#byModel.get(set.model)
    if (!events) return noGroups
    let groups = this.#bySet.get(set)
    if (!groups) {
      groups = set.columns.length === 0 ? new Map([['', events]]) : groupsOf(set, events)
      this.#bySet.set(set, groups)
    }
    return groups
  }
}

function groupsOf(set: ColumnSet, events: readonly FeedEvent[]): Groups {
  const groups = new Map<string, FeedEvent[]>()
  for (const one of events) {
    const key = one.event.type === 'saved' ? keyOf(set, one.event.row) : ''
    if (key === undefined) continue
    const group = groups.get(key)
    if (group) group.push(one)
    else groups.set(key, [one])
  }
  return groups
}
