/** The Accept header (RFC 9110, 12.5.1), read in one place: by GraphQL, by its streams, and by the pages that share an address with JSON. */
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

/** Parameters other than q are not looked at: no response of this server has one that a client could choose. */
function rangesOf(accept: string): Range[] {
  return (accept.match(rangeForm) ?? []).flatMap((text, place) => {
    const type = text.split(';', 1)[0]!.trim().toLowerCase()
    if (type === '') return []
    const quality = Number.parseFloat(qualityForm.exec(text)?.[1] ?? '1')
    return [{ type, place, quality: Number.isNaN(quality) ? 1 : Math.min(quality, 1) }]
  })
}

/** What the most specific range that fits says of it; undefined: none fits. */
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

/** Those of `offers` that are acceptable, the preferred one first; without a header, all as they stand. */
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

/** Whether it is named itself, and acceptable: `*` in a range asks for no page and no stream. */
export function names(accept: string | undefined, type: string): boolean {
  if (accept === undefined) return false
  const match = matchOf(rangesOf(accept), type)
  return match?.specific === 2 && match.quality > 0
}

/** A browser that opens an address names HTML, and prefers it to JSON. */
export function wantsPage(accept: string | undefined): boolean {
  return names(accept, 'text/html') && acceptable(accept, ['text/html', ...json])[0] === 'text/html'
}

/** A browser's EventSource names it. What a request gets, its operation decides: see `acceptedOf`. */
export function wantsEventStream(accept: string | undefined): boolean {
  return names(accept, eventStream)
}

export const json = ['application/json', 'application/graphql-response+json']
const eventStream = 'text/event-stream'
const offered = [...json, eventStream, 'multipart/mixed']

/** What an answer of GraphQL may be. */
export interface Accepted {
  /** All that Yoga can answer with, the preferred one first. */
  types: readonly string[]
  /** The Content-Type of an answer of JSON; undefined: none is acceptable. */
  json: string | undefined
  /** Whether a subscription can be answered: with a stream of events, and with nothing else. A range that covers it is enough. */
  stream: boolean
}

const headersCached = 100
/** In characters; a longer header is read each time. */
const cachedLength = 200
const known = new LRUCache<string, Accepted>({ max: headersCached })

export function acceptedOf(accept = ''): Accepted {
  if (accept.length > cachedLength) return read(accept)
  let accepted = known.get(accept)
  if (!accepted) {
    accepted = read(accept)
    known.set(accept, accepted)
  }
  return accepted
}

function read(accept: string): Accepted {
  const types = acceptable(accept, offered)
  const first = types.find((type) => json.includes(type))
  return { types, json: first && `${first}; charset=utf-8`, stream: types.includes(eventStream) }
}
