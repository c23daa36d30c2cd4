/**
 * `saved` for many subscribers at the price of one. A subscriber is a feed, a place in the log; what it is sent is rendered once for all
 * who asked the same (document, and variables but for `after`), however many they are and however far apart they read. Where a selected
 * field looks at who asks, each subscriber has a rendering of its own. Invariant: a subscriber holds no more than the batch it is being sent;
 * one that does not read is not read for.
 */
import { type ExecutionResult, Kind } from 'graphql'
import { type Cursor, formatCursor, parseCursor } from '../events/events.ts'
import type { Feed, FeedEvent, Follower } from '../events/follower.ts'
import type { Grant } from '../http/auth.ts'
import { withoutHttp } from '../http/errors.ts'
import type { Content } from '../model/content.ts'
import { badInput } from '../model/error.ts'
import type { Context } from './builder.ts'
import { type Document, type Documents, rootFields } from './documents.ts'
import type { Params } from './params.ts'
import { checkScopes } from './scopes.ts'

/** Some events of the log as subscribers of one kind get them. */
export interface Rendered {
  results: ExecutionResult[]
  /** The same as frames of Server-Sent Events, with the cursors for ids. */
  frames: Buffer
}

export interface SavedStream {
  feed: Feed
  render(events: readonly FeedEvent[]): Promise<Rendered>
  /** May be called twice. */
  close(): void
}

/** What is kept of it, for all who ask: in bytes. Who reads from further behind has it rendered anew. */
const renderedBytes = 32 * 1024 * 1024

/** Of contents, in characters, from which on rendering them has a turn of the event loop of its own. */
const turnLength = 64 * 1024

/** Those who asked the same. */
interface Audience {
  members: number
  render(events: readonly FeedEvent[]): Promise<Rendered>
}

export class SavedStreams {
  readonly #documents: Documents
  readonly #follower: Follower
  readonly #contextOf: (grant: Grant) => Context
  readonly #maskError: (error: unknown) => Error
  readonly #audiences = new Map<string, Audience>()
  readonly #recent = new Recent(renderedBytes)
  readonly #turn: () => Promise<void>

  /** `turn`: see Bytes. */
  constructor(
    documents: Documents,
    follower: Follower,
    contextOf: (grant: Grant) => Context,
    maskError: (error: unknown) => Error,
    turn: () => Promise<void>,
  ) {
    this.#documents = documents
    this.#follower = follower
    this.#contextOf = contextOf
    this.#maskError = maskError
    this.#turn = turn
  }

  /**
   * Opens the subscription, where it is one to `saved`; undefined where it is anything else, or wrong in a way that Yoga will tell.
   * `lastEventId` wins over `after`: a browser sends it when it comes back. Throws BAD_USER_INPUT, CURSOR_EXPIRED,
   * QUEUE_UNAVAILABLE, FORBIDDEN.
   */
  async open(params: Params, grant: Grant, lastEventId?: string): Promise<SavedStream | undefined> {
    const document = this.#documents.getNow(params)
    const saved = document && savedField(document)
    if (!saved || !document.fits(params.variables)) return undefined
    // Those that it declares: others may be anything, and as large as a body may be.
    const names = [...document.variables].filter(
      (name) => name !== saved.variable && Object.hasOwn(params.variables, name),
    )
    const variables = Object.fromEntries(names.map((name) => [name, params.variables[name]]))
    checkScopes(grant, document.needs)
    const after = cursorOf(lastEventId || afterOf(saved, params.variables))
    const feed = await this.#follower.feed(after)
    const key = `${params.operationName ?? ''}\n${params.query}\n${JSON.stringify(variables)}`
    const masked = (result: ExecutionResult): ExecutionResult =>
      result.errors ? { ...result, errors: result.errors.map((error) => withoutHttp(this.#maskError(error))) } : result
    // At once where it can be: what is half rendered for one kind waits in memory while others are.
    const resolve: Resolve = (event) => {
      const executed = document.execute(event, this.#contextOf(grant), variables)
      return executed instanceof Promise ? executed.then(masked) : masked(executed as ExecutionResult)
    }
    const render = (events: readonly FeedEvent[]) => rendered(resolve, events, this.#turn)
    if (!document.shared) {
      return { feed, render, close: () => feed.close() }
    }
    const audience = this.#audiences.get(key) ?? { members: 0, render: renderer(render, this.#recent) }
    audience.members += 1
    this.#audiences.set(key, audience)
    let open = true
    return {
      feed,
      render: audience.render,
      close: () => {
        feed.close()
        if (!open) return
        open = false
        audience.members -= 1
        if (audience.members === 0) this.#audiences.delete(key)
      },
    }
  }
}

interface SavedField {
  /** The variable that gives `after`, if one does. */
  variable: string | undefined
  /** What `after` is where the variable does not say: the literal, or the variable's default. */
  text: string | undefined
}

function savedField({ operation }: Document): SavedField | undefined {
  const [field] = rootFields(operation.selectionSet) ?? []
  if (operation.operation !== 'subscription' || field?.name.value !== 'saved') return undefined
  const value = field.arguments?.find(({ name }) => name.value === 'after')?.value
  if (value?.kind !== Kind.VARIABLE) {
    return { variable: undefined, text: value?.kind === Kind.STRING ? value.value : undefined }
  }
  const variable = value.name.value
  const declared = operation.variableDefinitions?.find((definition) => definition.variable.name.value === variable)
  const fallback = declared?.defaultValue
  return { variable, text: fallback?.kind === Kind.STRING ? fallback.value : undefined }
}

function afterOf({ variable, text }: SavedField, variables: Record<string, unknown>): string | undefined {
  if (variable === undefined || !Object.hasOwn(variables, variable)) return text
  return (variables[variable] as string | null) ?? undefined
}

function cursorOf(text: string | undefined): Cursor | undefined {
  if (text === undefined) return undefined
  const cursor = parseCursor(text)
  if (!cursor) throw badInput('after is not a cursor; use one that a `saved` event gave')
  return cursor
}

/** What was made last, up to a size in all; what was made before is forgotten. */
class Recent {
  readonly #most: number
  #made: { size: number; forget: () => void }[] = []
  #total = 0

  constructor(most: number) {
    this.#most = most
  }

  add(size: number, forget: () => void): void {
    this.#made.push({ size, forget })
    this.#total += size
    while (this.#total > this.#most) {
      const oldest = this.#made.shift()!
      this.#total -= oldest.size
      oldest.forget()
    }
  }
}

/** Makes of an event what a subscriber is sent. */
type Resolve = (event: { cursor: string; content: Content }) => ExecutionResult | Promise<ExecutionResult>

/** Renders each batch once: the follower hands the same array to everybody who reads the same entry. */
function renderer(renderNow: Audience['render'], recent: Recent): Audience['render'] {
  const made = new WeakMap<readonly FeedEvent[], Promise<Rendered>>()
  const render = async (events: readonly FeedEvent[]): Promise<Rendered> => {
    const rendering = await renderNow(events)
    // Once as bytes, and about as much again as objects.
    recent.add(rendering.frames.length * 2 + 1_000, () => made.delete(events))
    return rendering
  }
  return (events) => {
    let promise = made.get(events)
    if (!promise) {
      promise = render(events)
      made.set(events, promise)
    }
    return promise
  }
}

async function rendered(resolve: Resolve, events: readonly FeedEvent[], turn: () => Promise<void>): Promise<Rendered> {
  const results: ExecutionResult[] = []
  const frames: string[] = []
  // Each kind of subscriber has them rendered by itself, however many kinds there are.
  if (lengthOf(events) > turnLength) await turn()
  for (const { cursor, event } of events) {
    if (event.type !== 'saved') continue
    const id = formatCursor(cursor)
    const resolved = resolve({ cursor: id, content: event.content })
    const result = resolved instanceof Promise ? await resolved : resolved
    results.push(result)
    frames.push(`id: ${id}\nevent: next\ndata: ${JSON.stringify(result)}\n\n`)
  }
  return { results, frames: Buffer.from(frames.join('')) }
}

function lengthOf(events: readonly FeedEvent[]): number {
  return events.reduce((sum, { event }) => sum + (event.type === 'saved' ? event.content.content.length : 0), 0)
}
