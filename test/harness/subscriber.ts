/**
 * A subscriber to `saved` as docs/protocol.md asks for one: it keeps the cursor of the last event or heartbeat, and subscribes with it again wherever
 * a server accepts it. Invariant: it notes every event in the order it came, and every way in which the server broke the order.
 */
import type { Json } from './client.ts'
import { SseClient } from './sse.ts'
import { WsClient } from './ws.ts'

export type Wire = 'SSE' | 'WebSocket'
export const wires: Wire[] = ['SSE', 'WebSocket']

export const savedQuery = 'subscription ($after: String) { saved(after: $after) { cursor content { id } } }'

/** What a client reads when its cursor has expired: pages, from the newest row on, and where to subscribe from. */
export interface ReadBack {
  savedCursor: string
  ids: readonly string[]
}

/** A subscription to saved rows, with the variable `after`. */
export interface Feed {
  query: string
  /** Beside `after`. */
  variables?: Record<string, unknown>
  read(data: Json): { cursor: string; id: string }
}

const contents: Feed = {
  query: savedQuery,
  read: ({ saved }) => ({ cursor: saved.cursor, id: saved.content.id }),
}

export class Subscriber {
  /** "cursor id" of each event. */
  readonly seen: string[] = []
  readonly ids = new Set<string>()
  /** What it saw that it should not have. */
  readonly faults: string[] = []
  connections = 0
  /** How often its cursor expired. */
  expired = 0
  /** How many heartbeats had a later cursor. */
  heartbeats = 0
  readonly wire: Wire
  readonly #where: () => string | undefined
  readonly #stopping = new AbortController()
  #after: string
  #isExpired = false
  #drop = () => {}
  #done: Promise<void> | undefined
  readonly #feed: Feed
  /** Called with the id of each event besides. */
  onEvent: (id: string) => void = () => {}
  /** False: `seen` and `ids` stay empty, for a run so long that they would fill the memory. */
  keeps = true
  /** Called when the cursor has expired; undefined: then the server has broken its promise. */
  readBack: ((url: string) => Promise<ReadBack>) | undefined

  /** `where` says which server to go to now, if any. `after`: where it begins. */
  constructor(wire: Wire, after: string, where: () => string | undefined, feed = contents) {
    this.#feed = feed
    this.wire = wire
    this.#after = after
    this.#where = where
  }

  start(): this {
    this.#done = this.#run()
    return this
  }

  /** Loses its connection, without a goodbye. */
  drop(): void {
    this.#drop()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#drop()
    await this.#done
  }

  get cursor(): string {
    return this.#after
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      const url = this.#where()
      // Nobody there is no fault: it asks again.
      if (url) await this.#once(url).catch(() => {})
      if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  async #once(url: string): Promise<void> {
    if (this.#isExpired) {
      const { savedCursor, ids } = await this.readBack!(url)
      this.#after = savedCursor
      this.#isExpired = false
      for (const id of ids) this.ids.add(id)
    }
    await (this.wire === 'SSE' ? this.#overSse(url) : this.#overWs(url))
  }

  #note({ data, errors }: { data?: Json; errors?: { extensions?: { code?: string } }[] }): void {
    if (!data) {
      if (this.readBack && errors?.[0]?.extensions?.code === 'CURSOR_EXPIRED') {
        this.#isExpired = true
        this.expired += 1
        return
      }
      // Only what cannot be reached just now may be said to a subscriber whose cursor is good.
      if (errors?.[0]?.extensions?.code !== 'QUEUE_UNAVAILABLE') this.faults.push(JSON.stringify(errors))
      return
    }
    const { cursor, id } = this.#feed.read(data)
    if (cursor <= this.#after) this.faults.push(`${cursor} after ${this.#after}`)
    this.#after = cursor
    if (this.keeps) {
      this.seen.push(`${cursor} ${id}`)
      this.ids.add(id)
    }
    this.onEvent(id)
  }

  /** A heartbeat has the cursor of a later place, or of this one. */
  #moved(cursor: string): void {
    if (cursor < this.#after) this.faults.push(`heartbeat ${cursor} after ${this.#after}`)
    if (cursor > this.#after) this.heartbeats += 1
    this.#after = cursor
  }

  async #overSse(url: string): Promise<void> {
    const client = await SseClient.open(url, this.#feed.query, { ...this.#feed.variables, after: this.#after })
    client.onFrame = ({ id, event, data }) => {
      if (event === 'next') this.#note(JSON.parse(data))
      else if (event === undefined && id !== undefined) this.#moved(id)
      client.frames.length = 0
    }
    for (const frame of client.frames.splice(0)) client.onFrame(frame)
    this.connections += 1
    this.#drop = () => client.close()
    if (this.#stopping.signal.aborted) client.close()
    await client.ended
  }

  async #overWs(url: string): Promise<void> {
    const client = await WsClient.connect(url)
    client.onMessage = ({ type, payload }) => {
      if (type === 'next') this.#note(payload)
      if (type === 'ping') {
        client.send({ type: 'pong', payload })
        this.#moved(payload.cursors['1'])
      }
      if (type === 'error') {
        this.#note({ errors: payload })
        client.close()
      }
      client.messages.length = 0
    }
    this.connections += 1
    this.#drop = () => client.close()
    if (this.#stopping.signal.aborted) client.close()
    client.subscribe('1', this.#feed.query, { ...this.#feed.variables, after: this.#after })
    await client.closed
  }
}

/** Where the log ends now, as the first frame over Server-Sent Events tells it. */
export async function cursorNow(url: string): Promise<string> {
  const client = await SseClient.open(url, savedQuery)
  try {
    return await new Promise<string>((resolve, reject) => {
      const first = () => client.frames[0]?.id && resolve(client.frames[0].id)
      client.onFrame = first
      first()
      void client.ended.then(() => reject(new Error('the stream ended before it said where it begins')))
    })
  } finally {
    client.close()
  }
}
