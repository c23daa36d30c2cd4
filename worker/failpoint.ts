/**
 * A place to die at, for tests: SPILLWAY_FAILPOINT=committed:3 kills the process the third time it gets to "committed". Only with
 * NODE_ENV=test (config.ts sees to that); otherwise nothing is ever armed.
 */
export type Place =
  /** Entries were taken, nothing is written yet. */
  | 'taken'
  /** Rows are committed, nothing is announced. */
  | 'committed'
  /** The cache is bumped, the event is not appended. */
  | 'bumped'
  /** The event is appended, the entries are still in the queue. */
  | 'announced'
  /** The entries are out of the queue. */
  | 'settled'

let armed: { place: string; left: number } | undefined

export function arm(failpoint: string): void {
  const [place = '', times = '1'] = failpoint.split(':')
  armed = { place, left: Number(times) }
}

/** SIGKILL, so that nothing of the process gets a chance to tidy up. */
export function failpoint(place: Place): void {
  if (armed?.place !== place) return
  armed.left -= 1
  if (armed.left <= 0) process.kill(process.pid, 'SIGKILL')
}
