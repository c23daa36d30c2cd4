/** What somebody who runs this has to know now, worst first. Nothing of it is shown while all is well. */
import { useEffect, useState } from 'preact/hooks'
import { access } from '../access.ts'
import { count, duration, percent } from '../format.ts'
import { queue } from '../queue.ts'
import { useStore } from '../store.ts'

interface Banner {
  id: string
  level: 'bad' | 'warn'
  title: string
  text: string
}

/** A single answer that did not come is no lost connection. */
const lostAfterMs = 1_500

export function Banners() {
  const state = useStore(queue)
  const { may } = useStore(access)
  const now = useClock(state.lostSince !== undefined || state.stuckSince !== undefined)
  const banners = may.admin ? bannersOf(state, now) : []
  return (
    <div class="banners" role="alert">
      {banners.map(({ id, level, title, text }) => (
        <p key={id} class={`banner ${level}`} data-banner={id}>
          <strong>{title}</strong> {text}
        </p>
      ))}
    </div>
  )
}

function bannersOf({ status, lostSince, trouble, stuckSince }: ReturnType<typeof queue.get>, now: number): Banner[] {
  if (lostSince !== undefined) {
    if (now - lostSince < lostAfterMs) return []
    const text = 'Nothing you typed is lost: it is sent again, under the same id, as soon as the server answers.'
    return [{ id: 'lost', level: 'bad', title: 'The connection is lost.', text }]
  }
  if (trouble) {
    const title = trouble.code === 'QUEUE_UNAVAILABLE' ? 'Saves are refused.' : 'The state of the queue cannot be read.'
    return [{ id: 'trouble', level: 'bad', title, text: trouble.message }]
  }
  if (!status) return []
  const banners: Banner[] = []
  const { depth, inFlight, capacity, durability } = status
  if (depth >= capacity) {
    const text = `The queue has ${count(depth)} messages, its capacity. Workers continue to drain it.`
    banners.push({ id: 'full', level: 'bad', title: 'Saves are refused.', text })
  } else if (depth >= capacity * 0.8) {
    const text = `At ${count(capacity)} messages saves are refused: add workers, or send fewer saves.`
    banners.push({ id: 'high', level: 'warn', title: `The queue is ${percent(depth, capacity)} full.`, text })
  }
  if (depth > 0 && stuckSince !== undefined) {
    const since = duration(Math.max(0, now - stuckSince))
    banners.push(
      inFlight === 0
        ? {
            id: 'no-worker',
            level: 'bad',
            title: 'No worker runs.',
            text: `Messages have been waiting for ${since} and no worker receives them. Saves are still accepted; start a worker.`,
          }
        : {
            id: 'stuck',
            level: 'bad',
            title: 'No rows are written.',
            text: `For ${since} no row has been committed: the database is unavailable, or a worker crashed and its messages are still leased. Saves are still accepted.`,
          },
    )
  }
  if (durability !== 'FSYNC' && durability !== 'REPLICATED') {
    const loses = durability === 'EVERYSEC' ? 'about a second of acknowledged saves' : 'every save that is still queued'
    const text = `A power cut may cost ${loses}. Set appendonly yes and appendfsync always in the queue's Redis.`
    banners.push({ id: 'durability', level: 'warn', title: `Durability is ${durability}, not FSYNC.`, text })
  }
  return banners
}

function useClock(running: boolean): number {
  const [now, set] = useState(Date.now)
  useEffect(() => {
    if (!running) return
    set(Date.now())
    const timer = setInterval(() => set(Date.now()), 1_000)
    return () => clearInterval(timer)
  }, [running])
  return now
}
