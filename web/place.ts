/**
 * The fragment of the address: `#letters?code=…` is a filter of the dead letters, `#find=ID` a look-up, so that a link shows the same to a
 * colleague. Invariant: the address follows what is shown, and what is shown follows the address.
 */

/** Empty: any. */
export interface Filter {
  model: string
  code: string
  /** A part of the reason. */
  reason: string
  /** ISO 8601, so that a link means the same in another time zone. */
  after: string
  before: string
}

export const anything: Filter = { model: '', code: '', reason: '', after: '', before: '' }

export interface Place {
  /** The id that is looked up. */
  find?: string
  /** None while an id is looked up: the list stays as it is. */
  filter?: Filter
}

export function placeOf(hash: string): Place {
  const find = /^#find=(.*)$/s.exec(hash)
  if (find) return { find: decoded(find[1]!) }
  const given = new URLSearchParams(/^#letters\?(.*)$/s.exec(hash)?.[1])
  const names = Object.keys(anything) as (keyof Filter)[]
  return { filter: Object.fromEntries(names.map((name) => [name, given.get(name) ?? ''])) as unknown as Filter }
}

export const findHash = (id: string): string => `#find=${encodeURIComponent(id)}`

export function filterHash(filter: Filter): string {
  const given = Object.entries(filter).filter(([, value]) => value !== '')
  return given.length === 0 ? '' : `#letters?${new URLSearchParams(given)}`
}

/** As the API takes it; null: all. */
export function conditionsOf({ model, code, reason, after, before }: Filter) {
  const given = { model, code, reason, failedAfter: after, failedBefore: before }
  const conditions = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ''))
  return Object.keys(conditions).length === 0 ? null : (conditions as Partial<typeof given>)
}

/** A link to the place, whatever the address is now. */
export const linkTo = (hash: string): string => location.href.replace(/#.*$/s, '') + hash

export function go(hash: string): void {
  // Without a hash, an assignment to location.hash would leave a lone "#", and scroll to the top.
  if (hash !== location.hash) history.pushState(null, '', hash || location.pathname + location.search)
  for (const arrived of watchers) arrived(placeOf(hash))
}

const watchers: ((place: Place) => void)[] = []

/** Calls back with the place now, and whenever it changes. */
export function onPlace(arrived: (place: Place) => void): void {
  watchers.push(arrived)
  addEventListener('hashchange', () => {
    // Another fragment is a jump within the page, such as to the dead letters: the list keeps its filter.
    if (/^($|#find=|#letters\?)/.test(location.hash)) arrived(placeOf(location.hash))
  })
  arrived(placeOf(location.hash))
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
