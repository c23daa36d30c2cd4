/** The Accept header (RFC 9110, 12.5.1): for GraphQL, for its streams, and for pages that share a path with JSON. */
import { LRUCache } from 'lru-cache'

interface Range {
  type: string
  quality: number
  place: number
}

interface Match {
  quality: number
  /** 2: the type itself; 1: `type/*`; 0: any type. */
  specific: number
  place: number
}

/** One range of the list; a comma in quotes does not end it. */
const rangeForm = /(?:[^,"]|"(?:[^"\\]|\\.)*"?)+/g
const qualityForm = /;\s*q\s*=\s*(\d*\.?\d*)\s*(?:;|$)/i

/** Ignores parameters other than q: no media type of this server has another one to choose. */
function rangesOf(accept: string): Range[] {
  return (accept.match(rangeForm) ?? []).flatMap((text, place) => {
    const type = text.split(';', 1)[0]!.trim().toLowerCase()
    if (type === '') return []
    const quality = Number.parseFloat(qualityForm.exec(text)?.[1] ?? '1')
    return [{ type, place, quality: Number.isNaN(quality) ? 1 : Math.min(quality, 1) }]
  })
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
  const ranges = rangesOf(accept)
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
const offered = [...json, eventStream, 'multipart/mixed']

/** The media types that a GraphQL response may have. */
export interface Accepted {
  /** The acceptable types that Yoga supports, the preferred one first. */
  types: readonly string[]
  /** The Content-Type of a JSON response; undefined if JSON is not acceptable. */
  json: string | undefined
  /** Whether an event stream is acceptable, the only response to a subscription; a range that covers it is enough. */
  stream: boolean
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
  const types = acceptable(accept, offered)
  const first = types.find((type) => json.includes(type))
  return { types, json: first && `${first}; charset=utf-8`, stream: types.includes(eventStream) }
}
