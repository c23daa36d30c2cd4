/**
 * What is wrong, in words, the worst first: what the server says of the queue, and what only the page can see. Invariant: each thing is
 * announced to screen readers when it comes and when it is over, and not in between.
 */
import type { SpillwayError } from '../client/index.ts'
import { access } from './access.ts'
import { feed } from './feed.ts'
import { count, percent } from './format.ts'
import { models } from './models.ts'
import { type Condition, type LoggedError, queue, type Status } from './queue.ts'
import { makeStore } from './store.ts'

export interface Notice {
  id: string
  level: 'bad' | 'warn'
  /** In the title of the document. */
  short: string
  title: string
  since?: string | number | null
  /** The end of the title, behind the time. */
  end?: string
  /** What it means, and what to do about it. */
  text: string
  lastError?: LoggedError | null
}

export const shown = makeStore({
  /** Whether there is an answer, and what it takes to get one. */
  state: 'connecting' as 'connecting' | 'working' | 'wrong' | 'signed out' | 'not allowed',
  notices: [] as readonly Notice[],
  connection: 'connecting' as 'connecting' | 'live' | 'lost' | 'signed out',
  /** For screen readers: what came or is over. */
  news: '',
})

/** A single answer that did not come is no lost connection. */
const lostAfterMs = 1_500

export function watchStatus(): void {
  for (const store of [queue, access, feed, models]) store.follow(update)
}

function update(): void {
  const { state, notices, connection, news } = shown.get()
  const next = noticesNow()
  const now = stateOf(next)
  const isSame = now === state && connectionOf() === connection && JSON.stringify(next) === JSON.stringify(notices)
  if (isSame) return
  shown.set({ state: now, notices: next, connection: connectionOf(), news: newsOf(notices, next) ?? news })
}

function stateOf(notices: readonly Notice[]): ReturnType<typeof shown.get>['state'] {
  if (isSignedOut()) return 'signed out'
  if (!access.get().may.admin) return 'not allowed'
  if (notices.some(({ level }) => level === 'bad')) return 'wrong'
  return queue.get().status ? 'working' : 'connecting'
}

function isSignedOut(): boolean {
  const { on, may } = access.get()
  return on && !may.read && !may.write && !may.admin
}

function connectionOf(): ReturnType<typeof shown.get>['connection'] {
  const { may } = access.get()
  if (isSignedOut()) return 'signed out'
  const { state } = feed.get()
  const { status, trouble } = queue.get()
  if (isLost() || (may.read && state === 'lost')) return 'lost'
  if ((may.read && state === 'connecting') || (may.admin && !status && !trouble)) return 'connecting'
  return models.get().list.length > 0 ? 'live' : 'connecting'
}

function isLost(): boolean {
  const { lostSince } = queue.get()
  return lostSince !== undefined && Date.now() - lostSince >= lostAfterMs
}

function newsOf(before: readonly Notice[], now: readonly Notice[]): string | undefined {
  const isNew = ({ id }: Notice) => !before.some((known) => known.id === id)
  const come = now.filter(isNew).map(({ title, end }) => `${title}${end ?? ''}.`)
  // Without an answer, nothing is known to be over.
  const isUnknown = now.some(({ id }) => id === 'lost' || id === 'trouble')
  const gone = before
    .filter(({ id }) => !isUnknown && !now.some((still) => still.id === id))
    .map(({ title }) => `Over: ${title}.`)
  if (come.length + gone.length === 0) return undefined
  return [...come, ...gone, ...(now.length === 0 ? ['Spillway works.'] : [])].join(' ')
}

function noticesNow(): Notice[] {
  if (!access.get().may.admin) return []
  const { status, conditions, lostSince, trouble, troubleSince } = queue.get()
  // What was wrong before may be over.
  if (lostSince !== undefined) return isLost() ? [lost(lostSince)] : [...shown.get().notices]
  if (trouble) return [troubleOf(trouble, troubleSince)]
  if (!status) return []
  return [...conditions.map((condition) => noticeOf(condition, status, conditions)), ...warningsOf(status)]
}

const lost = (since: number): Notice => ({
  id: 'lost',
  level: 'bad',
  short: 'Connection lost',
  title: 'The server does not answer',
  since,
  text: 'The console asks again every second. Nothing you typed is lost: it is sent again, under the same id, as soon as the server answers.',
})

function troubleOf({ code, message }: SpillwayError, since: number | undefined): Notice {
  if (code === 'QUEUE_UNAVAILABLE') return unavailable(since ?? null, code)
  return { id: 'trouble', level: 'bad', short: 'Status unknown', title: 'The status cannot be read', text: message }
}

const unavailable = (since: string | number | null, code: string | null): Notice => ({
  id: 'unavailable',
  level: 'bad',
  short: 'Queue unavailable',
  title: 'The queue does not answer',
  since,
  end: code === null || code === 'QUEUE_UNAVAILABLE' ? ': saves are refused' : `: saves are refused (${code})`,
  text: "Check that the queue's Redis runs and can be reached, or that the disk of the embedded queue has room. The API's log has the error.",
})

function noticeOf(condition: Condition, status: Status, all: readonly Condition[]): Notice {
  const { kind, since, models, code, lastError } = condition
  switch (kind) {
    case 'QUEUE_UNAVAILABLE':
      return unavailable(since, code)
    case 'NO_WORKER':
      return {
        id: 'no-worker',
        level: 'bad',
        short: 'No worker',
        title: 'No worker runs',
        since,
        text: 'Saves are accepted up to the capacity, and none is written. Start a worker.',
        lastError,
      }
    case 'DATABASE_UNAVAILABLE':
      return {
        id: 'database',
        level: 'bad',
        short: 'Database unavailable',
        title: 'The database takes no rows',
        since,
        end: `${models.length > 0 ? ` for ${models.join(', ')}` : ''}${code === null ? '' : `: ${code}`}`,
        text: 'Saves are accepted up to the capacity, and workers try again by themselves. Check that the database runs, that the workers can reach it, and that its tables are those of this release.',
        lastError,
      }
    case 'PAUSED':
      return {
        id: 'paused',
        level: 'bad',
        short: 'Paused',
        title: 'Persisting is paused',
        since,
        end: status.paused?.by ? ` by ${status.paused.by}` : '',
        text: 'Saves are accepted up to the capacity, and none is written until somebody resumes it.',
      }
    case 'QUEUE_FULL':
      return {
        id: 'full',
        level: 'bad',
        short: 'Queue full',
        title: 'The queue is full: saves are refused',
        text: `It has ${count(status.depth)} messages, its capacity. Workers go on draining it; add workers, or send fewer saves.`,
      }
    case 'QUEUE_GROWS':
      return {
        id: 'grows',
        level: 'warn',
        short: 'Queue grows',
        title: 'The queue grows: the oldest message waits',
        since,
        text: all.some(({ kind }) => kind !== 'QUEUE_GROWS' && kind !== 'QUEUE_FULL')
          ? 'It drains when what is said above is over.'
          : 'Workers do not keep up: add workers, or send fewer saves.',
      }
  }
}

function warningsOf({ depth, capacity, durability }: Status): Notice[] {
  const warnings: Notice[] = []
  if (depth >= capacity * 0.8 && depth < capacity)
    warnings.push({
      id: 'high',
      level: 'warn',
      short: 'Queue nearly full',
      title: `The queue is ${percent(depth, capacity)} full`,
      text: `At ${count(capacity)} messages saves are refused: add workers, or send fewer saves.`,
    })
  if (durability !== 'FSYNC' && durability !== 'REPLICATED') {
    const loses = durability === 'EVERYSEC' ? 'about a second of acknowledged saves' : 'every save that is still queued'
    warnings.push({
      id: 'durability',
      level: 'warn',
      short: `Durability ${durability}`,
      title: `Durability is ${durability}, not FSYNC`,
      text: `A power cut may cost ${loses}. Set appendonly yes and appendfsync always in the queue's Redis.`,
    })
  }
  return warnings
}
