/**
 * A place to die at, for tests: SPILLWAY_FAILPOINT=committed:3 kills the process the third time it gets to "committed", and
 * SPILLWAY_FAILPOINT=content:TEXT a worker that gets to a content with TEXT in it. Only with NODE_ENV=test (config.ts sees to that);
 * otherwise nothing is ever armed.
 */
export type Place =
  /** Saves are checked, the queue is not asked yet. */
  | 'accepting'
  /** The queue has the saves, whoever sent them is not told yet. */
  | 'accepted'
  /** Entries were taken, nothing is written yet. */
  | 'taken'
  /** A worker is at this content. */
  | 'content'
  /** Rows are committed, what cannot be a row is buried, nothing is announced. */
  | 'committed'
  /** The cache is bumped, the queue still has the ids as pending. */
  | 'bumped'
  /** The queue has the ids as saved, the event is not appended. */
  | 'confirmed'
  /** The event is appended, the entries are still in the queue. */
  | 'announced'
  /** The entries are out of the queue. */
  | 'settled'

let armed: { place: string; text: string; left: number } | undefined

export function arm(failpoint: string): void {
  const [, place = '', which = ''] = /^(\w+):?(.*)$/s.exec(failpoint) ?? []
  armed = place === 'content' ? { place, text: which, left: 1 } : { place, text: '', left: Number(which || 1) }
}

/** SIGKILL, so that nothing of the process gets a chance to tidy up. */
export function failpoint(place: Place, content = ''): void {
  if (armed?.place !== place || !content.includes(armed.text)) return
  armed.left -= 1
  if (armed.left <= 0) process.kill(process.pid, 'SIGKILL')
}
