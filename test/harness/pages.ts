/** Pages of a list with their savedCursor, in each way that a client can ask for one. */
import type { Json } from './client.ts'
import { WsClient } from './ws.ts'

/** GraphQL by POST is the fast path from the third time on; GET and WebSocket are always Yoga's. */
export const pageWays = ['GraphQL by POST', 'GraphQL by GET', 'GraphQL over WebSocket', 'REST'] as const
export type PageWay = (typeof pageWays)[number]

/** What a list is sorted by, newest first. */
export interface Key {
  id: string
  createdAt: string
}

export interface Page {
  keys: Key[]
  /** null only in REST. */
  savedCursor: string | null
}

export interface AskedPage {
  /** The field of Query. */
  list?: string
  /** The route of REST. */
  path?: string
  /** `first`, and a narrowing; REST has no `last` and no `before`. */
  args?: Readonly<Record<string, string | number>>
}

/** Reads pages of one server. */
export class PageReader {
  readonly url: string
  readonly #headers: Record<string, string>
  #socket: Promise<WsClient> | undefined
  readonly #waiting = new Map<string, Pick<PromiseWithResolvers<unknown>, 'resolve' | 'reject'>>()
  #asked = 0

  constructor(url: string, token?: string) {
    this.url = url
    this.#headers = { accept: 'application/json', ...(token && { authorization: `Bearer ${token}` }) }
  }

  /** Throws where the answer has errors, or is none. */
  async read(way: PageWay, { list = 'contents', path = '/', args = {} }: AskedPage = {}): Promise<Page> {
    if (way === 'REST') {
      const search = new URLSearchParams(Object.entries(args).map(([name, value]) => [name, String(value)]))
      const { results, saved_cursor: savedCursor } = await this.#fetch(`${path}?${search}`)
      return { keys: results.map((row: Json) => ({ id: row.id, createdAt: row.created_at })), savedCursor }
    }
    const given = Object.entries(args).map(([name, value]) => `${name}: ${JSON.stringify(value)}`)
    const query = `{ page: ${list}${given.length > 0 ? `(${given})` : ''} { savedCursor edges { node { id createdAt } } } }`
    const { data, errors } = await this.#ask(way, query)
    if (errors) throw new Error(JSON.stringify(errors))
    return { keys: data.page.edges.map(({ node }: { node: Key }) => node), savedCursor: data.page.savedCursor }
  }

  async #ask(way: PageWay, query: string): Promise<Json> {
    if (way === 'GraphQL by GET') return await this.#fetch(`/graphql?query=${encodeURIComponent(query)}`)
    if (way === 'GraphQL by POST') {
      const headers = { 'content-type': 'application/json' }
      return await this.#fetch('/graphql', { method: 'POST', headers, body: JSON.stringify({ query }) })
    }
    this.#socket ??= this.#connect()
    const socket = await this.#socket
    this.#asked += 1
    const id = String(this.#asked)
    return await new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      socket.subscribe(id, query)
    })
  }

  /** One socket for all pages, until it is closed. */
  async #connect(): Promise<WsClient> {
    const waiting = this.#waiting
    const closed = () => {
      this.#socket = undefined
      for (const { reject } of waiting.values()) reject(new Error('the socket was closed'))
      waiting.clear()
    }
    const socket = await WsClient.connect(this.url, this.#headers).catch((error) => {
      closed()
      throw error
    })
    void socket.closed.then(closed)
    socket.onMessage = ({ id = '', type, payload }) => {
      socket.messages.length = 0
      waiting.get(id)?.resolve(type === 'next' ? payload : { errors: payload })
      waiting.delete(id)
    }
    return socket
  }

  async #fetch(
    path: string,
    { headers, ...request }: { headers?: object; method?: string; body?: string } = {},
  ): Promise<Json> {
    const response = await fetch(`${this.url}${path}`, { ...request, headers: { ...this.#headers, ...headers } })
    const body = (await response.json()) as { results?: unknown }
    if (path.startsWith('/graphql') || body.results) return body
    throw new Error(`${response.status} ${JSON.stringify(body)}`)
  }

  async close(): Promise<void> {
    const socket = await this.#socket?.catch(() => undefined)
    socket?.close()
    await socket?.closed
  }
}
