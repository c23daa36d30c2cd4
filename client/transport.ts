/**
 * Asking the server, with fetch alone. Invariant: what a call returns is what a Spillway server sent; everything else is thrown as a
 * SpillwayError, whose code says whether to try again. A refused token is asked for once more.
 */
import { type Code, closedError, errorOf, SpillwayError } from './error.ts'

/** For the first part of an answer, and for each further one. */
const answerWithinMs = 15_000
/** Characters that the slowest network takes in a millisecond. */
const slowest = 8
/** The server sends something at least every 12 s. */
const silentMs = 30_000
/** A smaller difference between clocks may be none. */
const leastAheadMs = 2_000

/** Called for each request; after a 401 once more, with the token that was refused. */
export type Token = string | ((refused?: string) => string | undefined | Promise<string | undefined>)

export interface Column {
  name: string
  type: string
  enumName?: string
  [rule: string]: unknown
}

export interface Model {
  name: string
  names: { one: string; many: string; saveMany: string; saved: string; [name: string]: unknown }
  columns: Column[]
}

interface ResponseError {
  message?: string
  path?: (string | number)[]
  extensions?: { code?: Code; retryAfterMs?: number; requestId?: string }
}

export interface Result<Data> {
  data?: Data | null
  /** Of /models.json. */
  models?: unknown
  errors?: ResponseError[]
}

/** A result of a stream, and the cursor behind it. `result` is null for a heartbeat. */
export interface Frame<Data> {
  cursor: string | undefined
  result: Result<Data> | null
}

type Variables = Readonly<Record<string, unknown>>
interface Asked {
  query: string
  variables: Variables
}

/** A BigInt is a text, as in what the server sends. Undefined for a function. */
export const toJson = (value: unknown): string =>
  JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? `${one}` : one))

export type Transport = ReturnType<typeof makeTransport>

export function makeTransport(url: string, token: Token | undefined, closed: AbortSignal) {
  // Else every request would fail, and be tried again for ever.
  if (!/^(https?:|\/|$)/.test(url)) throw new TypeError(`No http(s) URL: ${url}`)
  /** How far the server's clock is ahead, as far as the Date headers tell, which have whole seconds. */
  let ahead: number | undefined

  async function send(accept: string, signal: AbortSignal, body: string): Promise<Response> {
    const fetchWith = async (bearer: string | undefined) => {
      const response = await fetch(url.replace(/(\/graphql)?\/*$/, '') + (body ? '/graphql' : '/models.json'), {
        ...(body && { method: 'POST', body }),
        // A browser asks with the ETag of the body that it has.
        cache: 'no-cache',
        headers: {
          accept,
          ...(body && { 'content-type': 'application/json' }),
          ...(bearer && { authorization: `Bearer ${bearer}` }),
        },
        signal,
      })
      const difference = Date.parse(response.headers.get('date')!) - Date.now()
      if (difference) ahead = Math.max(ahead ?? difference, difference)
      return response
    }
    if (typeof token !== 'function') return await fetchWith(token)
    const bearer = await token()
    const response = await fetchWith(bearer)
    const renewed = response.status === 401 ? await token(bearer ?? '') : bearer
    if (renewed === bearer) return response
    void response.body?.cancel()
    return await fetchWith(renewed)
  }

  /**
   * The frames that came together, until the server completes the stream; with a name, one with an answer that has this member. It throws for
   * all else, and where nothing comes in time. A reader that takes frames slowly is sent no more meanwhile, or is disconnected.
   */
  async function* exchange<Data>(
    name: 'data' | 'models' | '',
    given: AbortSignal,
    asked?: Asked,
  ): AsyncGenerator<Frame<Data>[], void> {
    const end = new AbortController()
    const signal = AbortSignal.any([given, closed, end.signal])
    let timer: ReturnType<typeof setTimeout> | undefined
    // After a change of the network, a connection may never bring anything again.
    globalThis.addEventListener?.('online', () => end.abort(), { signal })
    const listen = (more = 0) => {
      clearTimeout(timer)
      timer = setTimeout(() => end.abort(), (name ? answerWithinMs : silentMs) + more)
    }
    try {
      const body = asked ? toJson(asked) : ''
      listen(body.length / slowest)
      const accept = name ? 'application/graphql-response+json' : 'text/event-stream'
      const response = await send(accept, signal, body)
      const isStream = response.headers.get('content-type')?.startsWith('text/event-stream')
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
      for (let rest = ''; ; ) {
        listen()
        const { done, value } = await reader.read()
        if (done) {
          if (isStream) throw 'the stream ended'
          // Undefined: it is no JSON, or was cut off.
          const answer: Result<Data> | undefined = await new Response(rest).json().catch(() => {})
          if (!answer?.[name as 'data'] || answer.errors) throw refusalOf(answer, response)
          yield [{ cursor: undefined, result: answer }]
          return
        }
        rest += value
        if (!isStream) continue
        const texts = rest.split('\n\n')
        rest = texts.pop()!
        const frames = texts.map((text) => frameOf<Data>(text))
        const taken = frames.filter(({ cursor, result }) => (result ? result.data : cursor))
        if (taken.length > 0) yield taken
        for (const { result } of frames) if (result && !result.data) throw refusalOf(result)
        if (texts.some((text) => text.startsWith('event: complete'))) return
      }
    } finally {
      clearTimeout(timer)
      end.abort()
    }
  }

  /** Of the answer; without it, the answer is none of Spillway's. */
  async function member<T>(name: 'data' | 'models', signal: AbortSignal, asked?: Asked): Promise<T> {
    try {
      let all: unknown
      for await (const [frame] of exchange(name, signal, asked)) all = frame!.result![name]
      return all as T
    } catch (error) {
      throw closed.aborted ? closedError() : errorOf(error)
    }
  }

  return {
    now: () => Date.now() + (ahead && Math.abs(ahead) > leastAheadMs ? ahead : 0),

    ask: <Data>(query: string, variables: Variables, signal = closed): Promise<Data> =>
      member('data', signal, { query, variables }),

    models: () => member<Model[]>('models', closed),

    stream: <Data>(query: string, variables: Variables, signal: AbortSignal) =>
      exchange<Data>('', signal, { query, variables }),
  }
}

function frameOf<Data>(text: string): Frame<Data> {
  // Not `.` and not `^` with the flag m: they know more line breaks than the protocol.
  const lineOf = (name: string) => new RegExp(`(?:^|\n)${name}: ([^\n]+)`).exec(text)?.[1]
  return { cursor: lineOf('id'), result: JSON.parse(lineOf('data') ?? 'null') }
}

/** Of answers that are not Spillway's: a firewall refuses a text that it takes for an attack with 403. */
const codes: Readonly<Record<number, Code>> = { 401: 'UNAUTHENTICATED', 403: 'BAD_REQUEST', 413: 'BAD_USER_INPUT' }

function refusalOf(body: Result<unknown> | undefined, response?: Response): SpillwayError {
  const [{ message, path, extensions = {} } = {} as ResponseError] = body?.errors ?? []
  const status = response?.status ?? 200
  // A server without /models.json is too old.
  const code = (status !== 404 && (extensions.code ?? codes[status])) || 'NOT_SPILLWAY'
  const after = Number(response?.headers.get('retry-after')) * 1_000
  return new SpillwayError(code, message ?? `HTTP ${status} is not Spillway's.`, {
    // Whatever answered in its place may be gone in a moment.
    retryAfterMs: after || (code === 'NOT_SPILLWAY' ? 5_000 : undefined),
    path,
    ...extensions,
  })
}
