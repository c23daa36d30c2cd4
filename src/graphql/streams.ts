/**
 * Feeds (`saved`) for many subscribers at the price of one. A subscriber is a feed, a place in the log; what it is sent is rendered once for all
 * who asked the same (document, and variables but for `after`), however many they are and however far apart they read. Where a selected
 * field looks at who asks, each subscriber has a rendering of its own. Invariant: a subscriber holds no more than the batch it is being sent;
 * one that does not read is not read for.
 */
import { type ExecutionResult, type FormattedExecutionResult, Kind, valueFromASTUntyped, visit } from 'graphql'
import { type Cursor, formatCursor, parseCursor } from '../events/events.ts'
import type { FeedEvent, Follower } from '../events/follower.ts'
import type { Grant } from '../http/auth.ts'
import { type MaskError, shownResult } from '../http/errors.ts'
import { badInput } from '../model/error.ts'
import type { Context } from './builder.ts'
import type { Document } from './documents.ts'
import type { Params } from './params.ts'
import type { FeedField, Root } from './roots.ts'
import { type Batch, frameOf, type Stream } from './stream.ts'

/** What is kept of it, for all who ask: in bytes. Who reads from further behind has it rendered anew. */
const renderedBytes = 32 * 1024 * 1024

/** Of contents, in characters, from which on rendering them has a turn of the event loop of its own. */
const turnLength = 64 * 1024

/** Those who asked the same. */
interface Audience {
  members: number
  render(events: readonly FeedEvent[]): Promise<Batch>
}

/** A subscription whose root field is a feed. */
export interface AskedFeed {
  document: Document
  params: Params
  root: Root
  feed: FeedField
}

export class SavedStreams {
  readonly #follower: Follower
  readonly #contextOf: (grant: Grant) => Context
  readonly #maskError: MaskError
  readonly #audiences = new Map<string, Audience>()
  readonly #recent = new Recent(renderedBytes)
  readonly #turn: () => Promise<void>

  /** `turn`: see Bytes. */
  constructor(
    follower: Follower,
    contextOf: (grant: Grant) => Context,
    maskError: MaskError,
    turn: () => Promise<void>,
  ) {
    this.#follower = follower
    this.#contextOf = contextOf
    this.#maskError = maskError
    this.#turn = turn
  }

  /**
   * Opens the subscription. `lastEventId` wins over `after`: a browser sends it when it comes back. Throws BAD_USER_INPUT, CURSOR_EXPIRED,
   * QUEUE_UNAVAILABLE.
   */
  async open(asked: AskedFeed, grant: Grant, lastEventId?: string): Promise<Stream> {
    const { after } = asked.root.args as { after?: string | null }
    const feed = await this.#follower.feed(cursorOf(lastEventId || (after ?? undefined)))
    const audience = asked.document.shared ? this.#join(asked, grant) : undefined
    const render = audience?.render ?? this.#renders(asked, grant)
    return {
      get cursor() {
        return formatCursor(feed.cursor)
      },
      completes: false,
      next: async () => {
        const events = await feed.next()
        return events && (await render(events))
      },
      close: () => {
        feed.close()
        audience?.leave()
      },
    }
  }

  /** Until `leave` is called, which may be called twice. */
  #join(asked: AskedFeed, grant: Grant): { render: Audience['render']; leave(): void } {
    const key = keyOf(asked)
    const audience = this.#audiences.get(key) ?? {
      members: 0,
      render: renderer(this.#renders(asked, grant), this.#recent),
    }
    audience.members += 1
    this.#audiences.set(key, audience)
    let open = true
    return {
      render: audience.render,
      leave: () => {
        if (!open) return
        open = false
        audience.members -= 1
        if (audience.members === 0) this.#audiences.delete(key)
      },
    }
  }

  #renders({ document, params, feed }: AskedFeed, grant: Grant): Audience['render'] {
    const variables = declared(document, params)
    const shown = (result: ExecutionResult) => shownResult(result, this.#maskError)
    // At once where it can be: what is half rendered for one kind waits in memory while others are.
    const resolve: Resolve = (event) => {
      const executed = document.execute(event, this.#contextOf(grant), variables)
      return executed instanceof Promise ? executed.then(shown) : shown(executed)
    }
    return (events) => rendered(resolve, feed, events, this.#turn)
  }
}

/** What one audience asks alike: everything but where it begins. */
function keyOf({ document, params, root }: AskedFeed): string {
  const variables = declared(document, params)
  const cursor = cursorVariable(document, root)
  if (cursor !== undefined) delete variables[cursor]
  return `${params.operationName ?? ''}\n${params.query}\n${JSON.stringify(variables)}`
}

/** Variables that the operation declares: others may be anything, and as large as a body may be. Compiled code wants defaults filled in. */
function declared({ operation }: Document, { variables }: Params): Record<string, unknown> {
  const declared: Record<string, unknown> = {}
  for (const { variable, defaultValue } of operation.variableDefinitions ?? []) {
    const name = variable.name.value
    if (Object.hasOwn(variables, name)) declared[name] = variables[name]
    else if (defaultValue) declared[name] = valueFromASTUntyped(defaultValue)
  }
  return declared
}

/** The variable that gives `after`, if one does, and that nothing else looks at. */
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
  // Where it is declared, and in each repetition of the field.
  return uses === 1 + nodes.length ? name : undefined
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
type Resolve = (event: unknown) => FormattedExecutionResult | Promise<FormattedExecutionResult>

/** Renders each batch once: the follower hands the same array to everybody who reads the same entry. */
function renderer(renderNow: Audience['render'], recent: Recent): Audience['render'] {
  const made = new WeakMap<readonly FeedEvent[], Promise<Batch>>()
  const render = async (events: readonly FeedEvent[]): Promise<Batch> => {
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

async function rendered(
  resolve: Resolve,
  feed: FeedField,
  events: readonly FeedEvent[],
  turn: () => Promise<void>,
): Promise<Batch> {
  const results: FormattedExecutionResult[] = []
  const frames: string[] = []
  // Each kind of subscriber has them rendered by itself, however many kinds there are.
  if (lengthOf(events) > turnLength) await turn()
  for (const event of events) {
    const root = feed.read(event)
    if (root === undefined) continue
    const resolved = resolve(root)
    const result = resolved instanceof Promise ? await resolved : resolved
    results.push(result)
    frames.push(`id: ${formatCursor(event.cursor)}\n${frameOf(result)}`)
  }
  return { results, frames: Buffer.from(frames.join('')) }
}

function lengthOf(events: readonly FeedEvent[]): number {
  return events.reduce((sum, { event }) => sum + (event.type === 'saved' ? event.content.content.length : 0), 0)
}
