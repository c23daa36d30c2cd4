/**
 * Asking the API. Invariant: a call answers what its operation is typed with, or throws a Refusal that says whether to try again: with the
 * same id, that is always safe.
 */
import { access, denied, granted, type Right, token } from './access.ts'
import type { Operation } from './operations.ts'

const answerWithinMs = 15_000
/** The server sends a sign of life every 12 s. */
const silentMs = 30_000

export class Refusal extends Error {
  /** An error code of the API's, or UNREACHABLE: no answer, or none of Spillway's. */
  readonly code: string
  /** When to try again; undefined: that would not help. */
  readonly retryAfterMs: number | undefined

  constructor(code: string, message: string, retryAfterMs: number | undefined) {
    super(message)
    this.code = code
    this.retryAfterMs = retryAfterMs
  }
}

export const unreachable = (error: unknown): boolean => error instanceof Refusal && error.code === 'UNREACHABLE'

interface ResponseError {
  message: string
  path?: unknown
  extensions?: { code?: string; retryAfterMs?: number }
}

interface Answer<Data> {
  data?: Data | null
  errors?: ResponseError[]
}

/** How far the server's clock is ahead of this one's, as far as the Date headers tell; 0 where they may well be the same. */
let ahead = Number.NEGATIVE_INFINITY
export const serverAhead = (): number => (Math.abs(ahead) < 2_000 || !Number.isFinite(ahead) ? 0 : ahead)

/** `right`: what it takes where authentication is on. */
export async function ask<Data, Variables>(
  operation: Operation<Data, Variables>,
  right: Right,
  variables: Variables,
  signal?: AbortSignal,
): Promise<Data> {
  const timeout = AbortSignal.timeout(answerWithinMs)
  const response = await send(
    operation,
    variables,
    'application/json',
    signal ? AbortSignal.any([signal, timeout]) : timeout,
  )
  const date = Date.parse(response.headers.get('date') ?? '')
  if (date) ahead = Math.max(ahead, date - Date.now())
  let answer: Answer<Data>
  try {
    answer = (await response.json()) as Answer<Data>
  } catch {
    throw lost()
  }
  return dataOf(answer, right, response)
}

/** JSON of a route that is no GraphQL. */
export async function get<Data>(path: string, right: Right): Promise<Data> {
  const response = await request(path, { signal: AbortSignal.timeout(answerWithinMs) })
  let answer: Data & Answer<Data>
  try {
    answer = (await response.json()) as Data & Answer<Data>
  } catch {
    throw lost()
  }
  // Its data is the whole body.
  return response.ok ? answer : dataOf<Data>({ errors: answer.errors ?? [] }, right, response)
}

/** What comes in one go of a stream: its newest id, and its results. */
export interface Chunk<Data> {
  id: string | undefined
  results: Data[]
}

/** Follows a subscription until the signal aborts or it ends, in whatever way: then it throws. */
export async function follow<Data, Variables>(
  operation: Operation<Data, Variables>,
  right: Right,
  variables: Variables,
  take: (chunk: Chunk<Data>) => void,
  signal: AbortSignal,
): Promise<never> {
  const silence = new AbortController()
  let timer = setTimeout(() => silence.abort(), silentMs)
  try {
    const response = await send(operation, variables, 'text/event-stream', AbortSignal.any([signal, silence.signal]))
    if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
      dataOf((await response.json()) as Answer<Data>, right, response)
      throw lost()
    }
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
    let rest = ''
    for (;;) {
      const { done, value } = await reader.read()
      if (done) throw lost()
      clearTimeout(timer)
      timer = setTimeout(() => silence.abort(), silentMs)
      const frames = (rest + value).split('\n\n')
      rest = frames.pop()!
      const chunk: Chunk<Data> = { id: undefined, results: [] }
      let refused: unknown
      for (const frame of frames) {
        for (const line of frame.split('\n')) {
          if (line.startsWith('id: ')) chunk.id = line.slice(4)
          else if (line.startsWith('data: ')) {
            try {
              chunk.results.push(dataOf(JSON.parse(line.slice(6)) as Answer<Data>, right))
            } catch (error) {
              refused ??= error
            }
          }
        }
      }
      take(chunk)
      if (refused) throw refused
    }
  } catch (error) {
    throw error instanceof Refusal ? error : lost()
  } finally {
    clearTimeout(timer)
    silence.abort()
  }
}

function send(query: string, variables: unknown, accept: string, signal: AbortSignal): Promise<Response> {
  const headers = { 'content-type': 'application/json', accept }
  return request('/graphql', { method: 'POST', headers, body: JSON.stringify({ query, variables }), signal })
}

async function request(path: string, init: RequestInit): Promise<Response> {
  const bearer = token()
  try {
    return await fetch(path, {
      ...init,
      headers: { ...init.headers, ...(bearer ? { authorization: `Bearer ${bearer}` } : {}) },
    })
  } catch {
    throw lost()
  }
}

function dataOf<Data>({ data, errors }: Answer<Data>, right: Right, response?: Response): Data {
  const [error] = errors ?? []
  if (!error) {
    if (data === undefined || data === null) throw lost()
    if (access.get().on) granted(right)
    return data
  }
  const { code = 'INTERNAL_SERVER_ERROR', retryAfterMs } = error.extensions ?? {}
  if (isAboutToken(error)) denied(right, code, error.message)
  const header = Number(response?.headers.get('retry-after') ?? Number.NaN)
  throw new Refusal(code, error.message, retryAfterMs ?? (Number.isFinite(header) ? header * 1_000 : undefined))
}

/** Or else the refusal is of one model, whose rows or columns need a claim: another model may do. */
function isAboutToken({ message, path, extensions }: ResponseError): boolean {
  if (extensions?.code === 'FORBIDDEN') return message.includes('a token with the scope')
  // The token is checked before any field is.
  return extensions?.code === 'UNAUTHENTICATED' && path === undefined
}

const lost = () => new Refusal('UNREACHABLE', 'The server cannot be reached.', 1_000)

/** Resolves after a time, or at once when the signal aborts. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done)
  })
}
