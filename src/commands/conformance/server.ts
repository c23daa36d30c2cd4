/** The server under test, asked by plain HTTP. Invariant: nothing of Spillway's own code is used, so that the suite tests any server. */

// biome-ignore lint/suspicious/noExplicitAny: the checks say what they expect of an answer.
export type Json = any

export interface Answer {
  status: number
  headers: Headers
  /** Undefined where it is no JSON. */
  body: Json
}

/** One event of Server-Sent Events, and whatever else ends in an empty line. */
export interface Frame {
  /** '' is an `id:` without text. */
  id?: string
  event?: string
  data?: string
}

export interface Server {
  url: string
  token: string | undefined
  /** Aborts the streams at the end. */
  signal: AbortSignal
  /** For an event or a row. */
  withinMs: number
}

const answerWithinMs = 30_000
const responseType = 'application/graphql-response+json'

function headersOf({ token }: Server, headers: Record<string, string>): Record<string, string> {
  return { ...(token && { authorization: `Bearer ${token}` }), ...headers }
}

export async function request(server: Server, path: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(server.url + path, {
    ...init,
    headers: headersOf(server, init.headers as Record<string, string>),
    signal: AbortSignal.timeout(answerWithinMs),
  })
  const text = await response.text()
  const parse = () => {
    try {
      return JSON.parse(text)
    } catch {
      return undefined
    }
  }
  return { status: response.status, headers: response.headers, body: parse() }
}

export function graphql(server: Server, query: string, variables: object = {}, accept = responseType): Promise<Answer> {
  const headers = { 'content-type': 'application/json', accept }
  return request(server, '/graphql', { method: 'POST', headers, body: JSON.stringify({ query, variables }) })
}

/** The data of an answer without errors. */
export async function ask(server: Server, query: string, variables: object = {}): Promise<Json> {
  const { status, body } = await graphql(server, query, variables)
  if (!body?.data || body.errors) throw new Error(`the answer to ${query} is ${status} ${JSON.stringify(body)}`)
  return body.data
}

export class Stream {
  readonly frames: Frame[] = []
  /** All of it, as it came. */
  text = ''
  readonly status: number
  readonly contentType: string
  /** The server closed the connection. */
  isEnded = false
  readonly #end: AbortController
  readonly #withinMs: number

  private constructor(response: Response, end: AbortController, withinMs: number) {
    this.#withinMs = withinMs
    this.status = response.status
    this.contentType = response.headers.get('content-type') ?? ''
    this.#end = end
    this.#read(response.body!).then(
      () => {
        this.isEnded = true
      },
      () => {
        this.isEnded = true
      },
    )
  }

  static async open(server: Server, query: string, variables: object = {}, more: Record<string, string> = {}) {
    const headers = { 'content-type': 'application/json', accept: 'text/event-stream', ...more }
    return await Stream.fetch(server, '/graphql', {
      method: 'POST',
      headers,
      body: JSON.stringify({ query, variables }),
    })
  }

  static async fetch(server: Server, path: string, init: RequestInit): Promise<Stream> {
    const end = new AbortController()
    const late = setTimeout(
      () => end.abort(new Error('there is no answer to the request for a stream')),
      answerWithinMs,
    )
    const response = await fetch(server.url + path, {
      ...init,
      headers: headersOf(server, init.headers as Record<string, string>),
      signal: AbortSignal.any([end.signal, server.signal]),
    }).finally(() => clearTimeout(late))
    return new Stream(response, end, server.withinMs)
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    let rest = ''
    for await (const text of body.pipeThrough(new TextDecoderStream() as never) as unknown as AsyncIterable<string>) {
      this.text += text
      // A line ends in CR, LF or both.
      const whole = (rest + text).replace(/\r\n|\r(?!$)/g, '\n')
      const blocks = whole.split('\n\n')
      rest = blocks.pop()!
      this.frames.push(...blocks.map(frameOf))
    }
  }

  /** What its `next` events say. */
  get results(): Json[] {
    return this.frames.flatMap(({ event, data }) => (event === 'next' ? [JSON.parse(data!)] : []))
  }

  /** The last cursor, as an EventSource keeps it. */
  get cursor(): string | undefined {
    return this.frames.findLast(({ id }) => id !== undefined)?.id
  }

  /** Resolves when the condition holds; what it waits for is in the message where it does not. */
  async until(what: string, condition: (stream: Stream) => boolean, withinMs = this.#withinMs): Promise<this> {
    await until(
      () => `${what}; the stream ${this.isEnded ? 'has ended' : 'is open'} and has sent ${JSON.stringify(this.frames)}`,
      () => condition(this),
      withinMs,
    )
    return this
  }

  close(): void {
    this.#end.abort()
  }
}

function frameOf(block: string): Frame {
  const frame: Frame = {}
  for (const line of block.split('\n')) {
    const [, field, value = ''] = /^(id|event|data)(?:: ?(.*))?$/s.exec(line) ?? []
    if (field === 'data') frame.data = frame.data === undefined ? value : `${frame.data}\n${value}`
    else if (field) frame[field as 'id' | 'event'] = value
  }
  return frame
}

/** Asks again until the condition holds. */
export async function until(
  what: () => string,
  condition: () => boolean | Promise<boolean>,
  withinMs: number,
): Promise<void> {
  const end = performance.now() + withinMs
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`within ${withinMs / 1_000} s: ${what()}`.slice(0, 1_000))
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
