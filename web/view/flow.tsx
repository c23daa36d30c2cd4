/** The way of a save, with what is where just now: the console in one line. */
import { access } from '../access.ts'
import { count, duration, percent, rate } from '../format.ts'
import { history, newest, total } from '../history.ts'
import { queue } from '../queue.ts'
import { shown } from '../status.ts'
import { useStore } from '../store.ts'

export function Flow() {
  const { status: known } = useStore(queue)
  const { recent } = useStore(history)
  const { notices } = useStore(shown)
  const { may } = useStore(access)
  if (!may.admin) return null
  const isStale = notices.some(({ id }) => id === 'lost' || id === 'trouble' || id === 'unavailable')
  const status = isStale ? undefined : known
  const point = isStale ? undefined : newest(recent)
  const depth = status?.depth ?? 0
  const number = (n: number | null | undefined, write = count) => (n === undefined || n === null ? '–' : write(n))
  const written = total(recent, 'persisted')
  return (
    <ol class="flow" aria-label="From save to database">
      <li class={(point?.accepted ?? 0) > 0 ? 'step moving' : 'step'}>
        <h2>Save</h2>
        <p class="number" data-number="saves">
          {number(point?.accepted, rate)} <small>per second</small>
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
      <li class={(point?.persisted ?? 0) > 0 ? 'step moving' : 'step'}>
        <h2>Worker</h2>
        <p class="number" data-number="in-flight">
          {number(status?.inFlight)} <small>in flight</small>
        </p>
        <p class="note">one statement for a whole batch</p>
      </li>
      <li class="step">
        <h2>Database</h2>
        <p class="number" data-number="persisted">
          {number(point?.persisted, rate)} <small>rows per second</small>
        </p>
        <p class="note" data-number="total">
          {number(written)} in the last five minutes
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
