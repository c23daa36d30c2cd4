/** The way of a save, with what is where just now: the console in one line. */
import { access } from '../access.ts'
import { count, duration, percent, rate } from '../format.ts'
import { queue } from '../queue.ts'
import { useStore } from '../store.ts'

export function Flow() {
  const { status, savesPerS, persistedPerS, persisted, counts } = useStore(queue)
  const { may } = useStore(access)
  if (!may.admin && !may.read) return null
  const depth = status?.depth ?? 0
  const number = (n: number | undefined) => (n === undefined ? '–' : count(n))
  return (
    <ol class="flow" aria-label="From save to database">
      <li class={savesPerS > 0 ? 'step moving' : 'step'}>
        <h2>Save</h2>
        <p class="number" data-number="saves">
          {status && counts ? rate(savesPerS) : '–'} <small>per second</small>
        </p>
        <p class="note">acknowledged once it is in the queue</p>
      </li>
      <li class={depth > 0 ? 'step moving' : 'step'}>
        <h2>Queue</h2>
        <p class="number" data-number="depth">
          {number(status?.depth)} <small>waiting</small>
        </p>
        <p class="note">
          {status && depth > 0 ? `oldest ${duration(status.oldestAgeMs)}, ` : ''}
          {status ? `${percent(depth, status.capacity)} of ${count(status.capacity)}` : 'not known'}
        </p>
        {status && <Fill part={depth / status.capacity} />}
      </li>
      <li class={persistedPerS > 0 ? 'step moving' : 'step'}>
        <h2>Worker</h2>
        <p class="number" data-number="in-flight">
          {number(status?.inFlight)} <small>in flight</small>
        </p>
        <p class="note">one statement for a whole batch</p>
      </li>
      <li class="step">
        <h2>Database</h2>
        <p class="number" data-number="persisted">
          {counts ? rate(persistedPerS) : '–'} <small>rows per second</small>
        </p>
        <p class="note" data-number="total">
          {persisted === 0 ? 'no row since you opened this page' : `${count(persisted)} since you opened this page`}
        </p>
      </li>
    </ol>
  )
}

function Fill({ part }: { part: number }) {
  const level = part >= 1 ? 'full' : part >= 0.8 ? 'high' : ''
  return (
    <div class={`fill ${level}`} aria-hidden="true">
      <div style={{ width: `${Math.min(100, part * 100)}%` }} />
    </div>
  )
}
