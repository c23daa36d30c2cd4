/** The client of the tests: GraphQL, REST, Server-Sent Events and WebSocket over one address and one token. */
import { randomUUID } from 'node:crypto'
import { eventually } from './eventually.ts'
import { SseClient } from './sse.ts'
import { WsClient } from './ws.ts'

/** JSON of an answer. */
// biome-ignore lint/suspicious/noExplicitAny: the assertions of a test say what it expects of an answer.
export type Json = any

export interface GraphQLAnswer {
  status: number
  headers: Headers
  body: Json
  /** Of the body. */
  data: Json
  errors: Json
}

/** The answer to a save, and the reason where it was refused. */
export interface SaveAnswer {
  id: string
  status: number
  tookMs: number
  /** The header. */
  retryAfter: string | null
  message: string | undefined
  code?: string
  retryAfterMs?: number
}

export interface Row {
  id: string
  content: string
  createdAt: string
  savedAt: string
}

/**
 * Sends a save as a client does: again with the same ids, where the answer is 503, and returns the first other one. For tests that are not
 * about refusals, on a server that may be busy, with their load or that of the machine.
 */
export async function untilTaken<T extends { status: number }>(send: () => Promise<T>): Promise<T> {
  const taken = async () => {
    const answer = await send()
    if (answer.status === 503) throw new Error(JSON.stringify(answer))
    return answer
  }
  return await eventually(taken, { timeoutMs: 60_000, intervalMs: 200 })
}

/** A page of a connection: 100 nodes. */
const paged = (list: string, fields: string) =>
  `query ($after: String) { ${list}(first: 100, after: $after) { edges { node { ${fields} } } pageInfo { endCursor hasNextPage } } }`

export class Client {
  readonly #url: () => string
  readonly #token: string | undefined

  constructor(url: string | (() => string), token?: string) {
    this.#url = typeof url === 'string' ? () => url : url
    this.#token = token
  }

  get url(): string {
    return this.#url()
  }

  /** A request to a path, with the token. */
  fetch(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(this.url + path, { ...init, headers: { ...this.#authorization(), ...init.headers } })
  }

  async graphql(
    query: string,
    variables: Record<string, unknown> = {},
    headers: Record<string, string> = {},
  ): Promise<GraphQLAnswer> {
    const accept = 'application/graphql-response+json'
    const response = await this.fetch('/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept, ...headers },
      body: JSON.stringify({ query, variables }),
    })
    const body: Json = await response.json()
    return { status: response.status, headers: response.headers, body, data: body.data, errors: body.errors }
  }

  /** POST /save. A missing answer is an error. */
  async save(content: string, options: { id?: string; signal?: AbortSignal } = {}): Promise<SaveAnswer> {
    const since = performance.now()
    const { id, signal = null } = options
    const response = await this.fetch('/save', { method: 'POST', body: JSON.stringify({ id, content }), signal })
    const body: Json = await response.json()
    const refusal = body.errors?.[0]
    return {
      id: body.id ?? id,
      status: response.status,
      tookMs: performance.now() - since,
      retryAfter: response.headers.get('retry-after'),
      message: refusal?.message,
      ...refusal?.extensions,
    }
  }

  /** Saves, with one id until it is acknowledged (`untilTaken`). */
  async saveUntilAcknowledged(content: string, id: string = randomUUID()): Promise<SaveAnswer> {
    const answer = await untilTaken(() => this.save(content, { id }))
    if (answer.status !== 202) throw new Error(`a save was refused: ${JSON.stringify(answer)}`)
    return answer
  }

  /** The mutation `save`, which waits for the row. */
  saveAndWait(content: string, waitMs = 20_000, id?: string): Promise<GraphQLAnswer> {
    return this.graphql(
      'mutation ($id: ID, $content: String!, $waitMs: Int) { save(id: $id, content: $content, waitMs: $waitMs) { saveId status duplicate content { id content } } }',
      { id, content, waitMs },
    )
  }

  saveMany(inputs: readonly { id?: string; content: string }[]): Promise<GraphQLAnswer> {
    return this.graphql('mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId } }', { inputs })
  }

  async receipt(id: string): Promise<Json> {
    return (await this.fetch(`/receipts/${id}`)).json()
  }

  /** All contents, the newest first. */
  contents(): Promise<Row[]> {
    return this.#all('contents', 'id content createdAt savedAt')
  }

  /** All dead letters, the oldest first. */
  async deadLetters(): Promise<
    { id: string; content: string | null; failure: { code: string; message: string; attempts: number } }[]
  > {
    const all = await this.#all('deadLetters', 'saveId input failure { code message attempts }')
    return all.reverse().map(({ saveId, input, failure }) => ({ id: saveId, content: input?.content ?? null, failure }))
  }

  /** Retries or discards dead letters by a filter, in GraphQL's form, or by ids. */
  async changeDeadLetters(
    how: 'retry' | 'discard',
    which: { ids: readonly string[] } | { filter: Record<string, unknown> },
    dryRun = false,
  ): Promise<{ count: number; saveIds: string[] }> {
    const name = `${how}DeadLetters`
    const { data, errors } = await this.graphql(
      `mutation ($ids: [ID!], $filter: DeadLetterFilter, $dryRun: Boolean) {
        ${name}(ids: $ids, filter: $filter, dryRun: $dryRun) { count saveIds }
      }`,
      { ...which, dryRun },
    )
    if (errors) throw new Error(JSON.stringify(errors))
    return data[name]
  }

  async queue(): Promise<{ depth: number; inFlight: number }> {
    return (await this.graphql('{ queue { depth inFlight } }')).data?.queue
  }

  /** Resolves when the server has answered, with its first bytes on their way. */
  sse(
    query: string,
    variables: Record<string, unknown> = {},
    headers: Record<string, string> = {},
  ): Promise<SseClient> {
    return SseClient.open(this.url, query, variables, { ...this.#authorization(), ...headers })
  }

  /** Resolves after connection_ack. */
  ws(): Promise<WsClient> {
    return WsClient.connect(this.url, this.#token ? this.#authorization() : undefined)
  }

  #authorization(): Record<string, string> {
    return this.#token ? { authorization: `Bearer ${this.#token}` } : {}
  }

  async #all(list: string, fields: string): Promise<Json[]> {
    const all: Json[] = []
    let after: string | null = null
    do {
      const { data, errors }: GraphQLAnswer = await this.graphql(paged(list, fields), { after })
      if (errors) throw new Error(JSON.stringify(errors))
      const { edges, pageInfo } = data[list]
      all.push(...edges.map((edge: { node: Json }) => edge.node))
      after = pageInfo.hasNextPage ? pageInfo.endCursor : null
    } while (after !== null)
    return all
  }
}

export const client = (url: string | (() => string), token?: string): Client => new Client(url, token)
