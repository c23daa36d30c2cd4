/** The queue in the last five minutes, as a chart, with its numbers for a legend. */
import { count, duration, rate } from '../format.ts'
import { queue } from '../queue.ts'
import { useStore } from '../store.ts'
import { Chart } from './chart.tsx'

const durable = {
  REPLICATED: 'on disk and at replicas before it is acknowledged',
  FSYNC: 'on disk before it is acknowledged',
  EVERYSEC: 'on disk within a second',
  MEMORY: 'in memory only',
}

export function QueuePanel() {
  const { status, savesPerS, persistedPerS, counts } = useStore(queue)
  return (
    <section class="panel" aria-labelledby="queue-title">
      <div class="row">
        <h2 id="queue-title">
          Queue <small>last five minutes</small>
        </h2>
        <ul class="legend">
          <li class="depth">
            Backlog <b>{count(status?.depth ?? 0)}</b>
          </li>
          <li class="saves">
            Saves/s <b>{counts ? rate(savesPerS) : '–'}</b>
          </li>
          <li class="persisted">
            Persisted/s <b>{counts ? rate(persistedPerS) : '–'}</b>
          </li>
        </ul>
      </div>
      <Chart />
      {status && (
        <dl class="facts">
          <div>
            <dt>In flight</dt>
            <dd>{count(status.inFlight)}</dd>
          </div>
          <div>
            <dt>Oldest</dt>
            <dd>{status.depth > 0 ? duration(status.oldestAgeMs) : 'none'}</dd>
          </div>
          <div>
            <dt>Capacity</dt>
            <dd>{count(status.capacity)}</dd>
          </div>
          <div>
            <dt>Durability</dt>
            <dd>
              {status.durability} <span class="hint">{durable[status.durability]}</span>
            </dd>
          </div>
        </dl>
      )}
    </section>
  )
}
