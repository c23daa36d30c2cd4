/**
 * Streams of feeds (`saved`, `commentSaved`). A subscriber has a position in the events log. Each batch of events is rendered once for all
 * subscribers with the same document, variables (except `after`) and topic, however many there are and however far apart their positions
 * are. If a selected field depends on the grant, each subscriber has a rendering of its own. Invariant: a subscriber holds no more than the batch being sent; for one
 * that does not read its stream, the log is not read.
 */
import { type ExecutionResult, Kind, valueFromASTUntyped, visit } from 'graphql'
import type { Bytes } from '../app/bytes.ts'
import { type Cursor, formatCursor, parseCursor } from '../events/events.ts'
import type { Feed, Follower } from '../events/follower.ts'
import { type FeedEvent, type Topic, topicText } from '../events/topics.ts'
import { type MaskError, shownResult } from '../http/errors.ts'
import { badInput } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'
import { nextOf, type Polled, type Polls } from '../model/polls.ts'
import { Batch, type Result } from './batch.ts'
import type { Context } from './builder.ts'
import type { Document } from './documents.ts'
import { templateOf } from './event-template.ts'
import type { GraphQLParams } from './params.ts'
import type { FeedField, Root } from './roots.ts'

/** Bytes of cached renderings; a subscriber that is further behind has its events rendered again. */
const maxRenderedBytes = 32 * 1024 * 1024

/** Rendering more bytes of rows waits for a turn of the event loop of its own. */
const turnBytes = 64 * 1024

/** A subscription as HTTP and WebSocket serve it. */
export interface Stream extends Polls<Batch> {
  /** The cursor to resume from; undefined if the stream cannot be resumed. */
  readonly cursor: string | undefined
  /** The cursor while the stream waits at the end of the log and has returned all events before it; undefined otherwise. */
  readonly end: string | undefined
  /** Whether the end of the stream is `complete` for the client: a feed never completes. */
  readonly completes: boolean
  /** As `poll`, and waits for the results. */
  next(): Promise<Batch | undefined>
  /** May be called twice. */
  close(): void
}

/** Renders at once, unless a resolver needs time, or there are many bytes. */
type Render = (events: readonly FeedEvent[]) => Batch | Promise<Batch>

/** A subscription whose root field is a feed. */
export interface FeedRequest {
  document: Document
  params: GraphQLParams
  root: Root
  feed: FeedField
  /** To be called once the subscription has ended. */
  leave: () => void
}

/** A feed as one client sees it. */
interface TopicRequest extends FeedRequest {
  topic: Topic
}

/** A class, since an object literal with getters has a hidden class of its own: a kilobyte for each stream. */
class FeedStream implements Stream {
  readonly completes = false
  readonly #feed: Feed
  readonly #render: Render
  readonly #leave: () => void
  readonly #textOf: (end: Cursor) => string

  constructor(feed: Feed, render: Render, leave: () => void, textOf: (end: Cursor) => string) {
    this.#feed = feed
    this.#render = render
    this.#leave = leave
    this.#textOf = textOf
  }

  get cursor(): string {
    return formatCursor(this.#feed.cursor)
  }

  get end(): string | undefined {
    const { end } = this.#feed
    return end && this.#textOf(end)
  }

  poll(): Polled<Batch> | Promise<Polled<Batch>> {
    const events = this.#feed.poll()
    return events instanceof Promise ? events.then((read) => this.#rendered(read)) : this.#rendered(events)
  }

  #rendered(events: Polled<readonly FeedEvent[]>): Polled<Batch> | Promise<Batch> {
    return events === undefined || events === 'none' ? events : this.#render(events)
  }

  onMore(listener: () => void): void {
    this.#feed.onMore(listener)
  }

  next(): Promise<Batch | undefined> {
    return nextOf(this)
  }

  close(): void {
    this.#feed.close()
    this.#leave()
  }
}

export interface FeedStreamsDeps {
  follower: Follower
  contextOf: (grant: Grant) => Context
  bytes: Bytes
  maskError: MaskError
}

export class FeedStreams {
  readonly #deps: FeedStreamsDeps
  readonly #renderers = new Map<string, SharedRenderer>()
  readonly #recent = new Recent(maxRenderedBytes)
  #end: { cursor: Cursor; text: string } | undefined

  constructor(deps: FeedStreamsDeps) {
    this.#deps = deps
  }

  /**
   * Opens the subscription. `lastEventId` has precedence over `after`: a browser sends it when it reconnects. Throws BAD_USER_INPUT, FORBIDDEN,
   * CURSOR_EXPIRED, QUEUE_UNAVAILABLE.
   */
  async open(feedRequest: FeedRequest, grant: Grant, lastEventId?: string): Promise<Stream> {
    const { args } = feedRequest.root
    const topic = feedRequest.feed.topic(args, grant)
    const request: TopicRequest = { ...feedRequest, topic }
    const { after } = args as { after?: string | null }
    const feed = await this.#deps.follower.feed(topic, cursorOf(lastEventId || (after ?? undefined)))
    const shared = request.document.shared ? this.#share(request, grant) : undefined
    const render = shared?.render ?? this.#rendererOf(request, grant)
    return new FeedStream(feed, render, shared?.leave ?? request.leave, (end) => this.#endText(end))
  }

  /** Feeds that wait at the end of the log share its text. */
  #endText(end: Cursor): string {
    if (end !== this.#end?.cursor) this.#end = { cursor: end, text: formatCursor(end) }
    return this.#end.text
  }

  /** Shares a renderer until `leave` is called, which may be called twice. */
  #share(request: TopicRequest, grant: Grant): { render: Render; leave(): void } {
    const key = keyOf(request)
    const known = this.#renderers.get(key)
    const renderer = known ?? new SharedRenderer(this.#rendererOf(request, grant), this.#recent)
    renderer.subscribers += 1
    if (!known) this.#renderers.set(key, renderer)
    const { leave } = request
    let open = true
    return {
      render: (events) => renderer.render(events),
      leave: () => {
        if (!open) return
        open = false
        leave()
        renderer.subscribers -= 1
        if (renderer.subscribers > 0) return
        this.#renderers.delete(key)
        renderer.close()
      },
    }
  }

  #rendererOf({ document, params, feed }: TopicRequest, grant: Grant): Render {
    const { contextOf, maskError, bytes } = this.#deps
    const variables = declaredVariables(document, params)
    const shown = (result: ExecutionResult) => shownResult(result, maskError)
    // Synchronous if possible: while other renderings run, a half-finished one would stay in memory.
    const resolve = (root: unknown) => {
      const executed = document.execute(root, contextOf(grant), variables)
      return executed instanceof Promise ? executed.then(shown) : shown(executed)
    }
    const template = templateOf(document, variables)
    const resultOf = ({ cursorText, event }: FeedEvent) => {
      const root = feed.root(cursorText, event)
      return template?.(root) ?? resolve(root)
    }
    return (events) => renderBatch(events, resultOf, bytes)
  }
}

/** The key of a shared renderer: the request except the position where it begins, and the events that the client may see. */
function keyOf({ document, params, root, topic }: TopicRequest): string {
  const variables = declaredVariables(document, params)
  const cursor = cursorVariable(document, root)
  if (cursor !== undefined) delete variables[cursor]
  const parts = [params.operationName, params.query, variables, topicText(topic)]
  return JSON.stringify(parts)
}

/** The variables that the operation declares: others may be as large as a body. Compiled code needs the defaults filled in. */
export function declaredVariables({ operation }: Document, { variables }: GraphQLParams): Record<string, unknown> {
  const declared: Record<string, unknown> = {}
  for (const { variable, defaultValue } of operation.variableDefinitions ?? []) {
    const name = variable.name.value
    if (Object.hasOwn(variables, name)) declared[name] = variables[name]
    else if (defaultValue) declared[name] = valueFromASTUntyped(defaultValue)
  }
  return declared
}

/** The variable that `after` is given by, if nothing else uses it. */
function cursorVariable({ node }: Document, { nodes }: Root): string | undefined {
  const value = nodes[0]!.arguments?.find(({ name }) => name.value === 'after')?.value
  if (value?.kind !== Kind.VARIABLE) return undefined
  const name = value.name.value
  let uses = 0
  visit(node, {
    [Kind.VARIABLE]: (variable) => {
      if (variable.name.value === name) uses += 1
    },
  })
  // One use is its declaration; the others are the repetitions of the field.
  return uses === 1 + nodes.length ? name : undefined
}

function cursorOf(text: string | undefined): Cursor | undefined {
  if (text === undefined) return undefined
  const cursor = parseCursor(text)
  if (!cursor) throw badInput('after is not a cursor; use the savedCursor of a page, or the cursor of an event')
  return cursor
}

/** The latest renderings, up to a total size; older ones are dropped. */
class Recent {
  readonly #max: number
  #entries: ({ size: number; drop: () => void } | undefined)[] = []
  /** The entries before this one were dropped: to shift an array of thousands of them copies it. */
  #oldest = 0
  #total = 0

  constructor(max: number) {
    this.#max = max
  }

  add(size: number, drop: () => void): void {
    this.#entries.push({ size, drop })
    this.#total += size
    while (this.#total > this.#max) {
      const { size: dropped, drop: dropOldest } = this.#entries[this.#oldest]!
      this.#entries[this.#oldest++] = undefined
      this.#total -= dropped
      dropOldest()
    }
    if (this.#oldest <= this.#entries.length / 2) return
    this.#entries = this.#entries.slice(this.#oldest)
    this.#oldest = 0
  }
}

/** Renders a feed for all subscribers that sent the same request: each batch once, since all of them get the same array of events. */
class SharedRenderer {
  readonly #render: Render
  readonly #recent: Recent
  #renderings = new WeakMap<readonly FeedEvent[], Batch | Promise<Batch>>()
  subscribers = 0

  constructor(render: Render, recent: Recent) {
    this.#render = render
    this.#recent = recent
  }

  render(events: readonly FeedEvent[]): Batch | Promise<Batch> {
    // Nobody else would take the rendering, and to keep it costs about as much as to make it.
    if (this.subscribers === 1) return this.#render(events)
    let rendering = this.#renderings.get(events)
    if (!rendering) {
      rendering = this.#render(events)
      this.#renderings.set(events, rendering)
      if (rendering instanceof Promise) void this.#keepWhenDone(events, rendering)
      else this.#keep(events, rendering)
    }
    return rendering
  }

  /** Nobody will take the renderings, which Recent would keep. */
  close(): void {
    this.#renderings = new WeakMap()
  }

  async #keepWhenDone(events: readonly FeedEvent[], rendering: Promise<Batch>): Promise<void> {
    try {
      this.#keep(events, await rendering)
    } catch {
      // Whoever takes the rendering gets the error.
    }
  }

  #keep(events: readonly FeedEvent[], { frames }: Batch): void {
    // The bytes, and about as much again for the texts, the objects, and the parts of multipart subscriptions.
    this.#recent.add(frames.length * 4 + 1_000, () => this.#renderings.delete(events))
  }
}

function renderBatch(
  events: readonly FeedEvent[],
  resultOf: (event: FeedEvent) => Result | Promise<Result>,
  bytes: Bytes,
): Batch | Promise<Batch> {
  const results: Result[] = []
  const batch = () =>
    new Batch(
      results,
      events.map(({ cursorText }) => cursorText),
    )
  // Every renderer renders the events, and there may be many renderers.
  if (events.reduce((sum, { size }) => sum + size, 0) > turnBytes) return bytes.turn().then(() => renderRest())
  for (const event of events) {
    const result = resultOf(event)
    if (result instanceof Promise) return renderRest(result)
    results.push(result)
  }
  return batch()

  /** One after the other, since a resolver may read from the database. */
  async function renderRest(pending?: Promise<Result>): Promise<Batch> {
    if (pending) results.push(await pending)
    for (const event of events.slice(results.length)) results.push(await resultOf(event))
    return batch()
  }
}
