/** The Accept header (RFC 9110, 12.5.1): for GraphQL, for its streams, and for pages that share a path with JSON. */
import { LRUCache } from 'lru-cache'

interface Range {
  type: string
  quality: number
  place: number
  /** Of Apollo's multipart subscriptions: it has the parameter subscriptionSpec=1.0. */
  subscriptions: boolean
}

interface Match {
  quality: number
  /** 2: the type itself; 1: `type/*`; 0: any type. */
  specific: number
  place: number
}

/** One range of the list; a comma in quotes does not end it. */
const rangeForm = /(?:[^,"]|"(?:[^"\\]|\\.)*"?)+/g
const parameterForm = /;\s*([^\s=;]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)/g

/** Ignores parameters other than q and subscriptionSpec: no media type of this server has another one to choose. */
function rangesOf(accept: string): Range[] {
  return (accept.match(rangeForm) ?? []).flatMap((text, place) => {
    const type = text.split(';', 1)[0]!.trim().toLowerCase()
    if (type === '') return []
    const parameters = parametersOf(text)
    const q = parameters.get('q') ?? ''
    const quality = /^(?:\d+\.?\d*|\.\d+)$/.test(q) ? Math.min(Number(q), 1) : 1
    const subscriptions = type === multipart && parameters.get('subscriptionspec') === '1.0'
    return [{ type, place, quality, subscriptions }]
  })
}

/** By name in lower case; of several with one name the first. */
function parametersOf(text: string): ReadonlyMap<string, string> {
  const all = [...text.matchAll(parameterForm)].map(([, name, value]): [string, string] => [
    name!.toLowerCase(),
    value!.trim().replace(/^"(.*)"$/, '$1'),
  ])
  return new Map(all.reverse())
}

/** The most specific range that matches the type; undefined if none does. */
function matchOf(ranges: readonly Range[], type: string): Match | undefined {
  const forms = ['*/*', `${type.split('/', 1)[0]}/*`, type]
  let best: Match | undefined
  for (const range of ranges) {
    const specific = forms.indexOf(range.type)
    if (specific < 0) continue
    const { quality, place } = range
    if (!best || specific > best.specific || (specific === best.specific && quality > best.quality))
      best = { quality, specific, place }
  }
  return best
}

/** The acceptable ones of `offers`, the preferred one first; without a header, all in their order. */
export function acceptable(accept: string | undefined, offers: readonly string[]): readonly string[] {
  return accept === undefined || accept.trim() === '' ? offers : orderOf(accept, offers)
}

function orderOf(accept: string, offers: readonly string[]): string[] {
  return order(rangesOf(accept), offers)
}

function order(ranges: readonly Range[], offers: readonly string[]): string[] {
  return offers
    .flatMap((type) => {
      const match = matchOf(ranges, type)
      return match && match.quality > 0 ? [{ type, ...match }] : []
    })
    .sort((a, b) => b.quality - a.quality || b.specific - a.specific || a.place - b.place)
    .map(({ type }) => type)
}

/** Whether the header names the type itself, and accepts it: a range with `*` requests no page and no stream. */
export function names(accept: string | undefined, type: string): boolean {
  if (accept === undefined) return false
  const match = matchOf(rangesOf(accept), type)
  return match?.specific === 2 && match.quality > 0
}

/** A browser that opens a URL names HTML, and prefers it to JSON. */
export function wantsPage(accept: string | undefined): boolean {
  return names(accept, 'text/html') && acceptable(accept, ['text/html', ...json])[0] === 'text/html'
}

/** A browser's EventSource names the type. The operation, and not this, decides on the response: see `acceptedOf`. */
export function wantsEventStream(accept: string | undefined): boolean {
  return names(accept, eventStream)
}

export const json = ['application/json', 'application/graphql-response+json']
const eventStream = 'text/event-stream'
const multipart = 'multipart/mixed'
const offered = [...json, eventStream, multipart]

/** Server-Sent Events, or Apollo's multipart subscriptions. */
export type StreamType = 'sse' | 'multipart'

/** The media types that a GraphQL response may have. */
export interface Accepted {
  /** The acceptable types that Yoga supports, the preferred one first. */
  types: readonly string[]
  /** The Content-Type of a JSON response; undefined if JSON is not acceptable. */
  json: string | undefined
  /** How a subscription is streamed; undefined if neither way is acceptable. For an event stream, a range that covers it is enough; the other
   *  one must be named. */
  stream: StreamType | undefined
}

const headersCached = 100
/** In characters; a longer header is read each time. */
const cachedLength = 200
const acceptedByHeader = new LRUCache<string, Accepted>({ max: headersCached })

export function acceptedOf(accept = ''): Accepted {
  if (accept.length > cachedLength) return read(accept)
  let accepted = acceptedByHeader.get(accept)
  if (!accepted) {
    accepted = read(accept)
    acceptedByHeader.set(accept, accepted)
  }
  return accepted
}

function read(accept: string): Accepted {
  if (accept.trim() === '') return { types: offered, json: `${json[0]}; charset=utf-8`, stream: 'sse' }
  const ranges = rangesOf(accept)
  const named = ranges.filter((range) => range.subscriptions)
  const others = ranges.filter((range) => !range.subscriptions)
  // A range with `*` covers the media type without its parameter.
  const takesMultipart = order(named, [multipart]).length > 0
  const offers = takesMultipart ? [eventStream, multipart] : [eventStream]
  const [stream] = order([...others.filter(({ type }) => type !== multipart), ...named], offers)
  const types = order(others, offered)
  // After JSON: the errors of an invalid document are one response.
  if (takesMultipart && !types.includes(multipart)) types.push(multipart)
  const first = types.find((type) => json.includes(type))
  return {
    types,
    json: first && `${first}; charset=utf-8`,
    stream: stream === undefined ? undefined : stream === eventStream ? 'sse' : 'multipart',
  }
}
