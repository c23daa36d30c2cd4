/** Each worker: where it runs, what it does and holds, its last error; and the button that pauses them all. */
import { useState } from 'preact/hooks'
import { count, plural, rate } from '../format.ts'
import { pausePersisting, persisting, resumePersisting } from '../persisting.ts'
import { queue } from '../queue.ts'
import { useStore } from '../store.ts'
import { type Held, type Worker, workers } from '../workers.ts'
import { Dialog } from './dialog.tsx'
import { Time } from './time.tsx'

/** So many ended ones are shown at once. */
const shownEnded = 3

const words = {
  WORKING: 'Working',
  WAITING: 'Waits for a table',
  PAUSED: 'Paused',
  STOPPED: 'Stopped',
  GONE: 'Gone',
}

export function WorkersPanel() {
  const { list, problem } = useStore(workers)
  const running = list?.filter(({ endedAt }) => endedAt === null) ?? []
  const ended = list?.filter(({ endedAt }) => endedAt !== null) ?? []
  return (
    <section class="panel workers" aria-labelledby="workers-title">
      <div class="row">
        <h2 id="workers-title">
          Workers <small>{list && `${count(running.length)} running`}</small>
        </h2>
        <PauseButton />
      </div>
      {problem && <p class="hint bad">The workers cannot be read: {problem}</p>}
      {list && running.length === 0 && <p class="hint">No worker runs.</p>}
      {running.length > 0 && <List name="Running workers" list={running} />}
      {ended.length > 0 && <List name="Ended workers" list={ended.slice(0, shownEnded)} />}
      {ended.length > shownEnded && (
        <details>
          <summary>{plural(ended.length - shownEnded, 'more worker')} that ended within a day</summary>
          <List name="More ended workers" list={ended.slice(shownEnded)} />
        </details>
      )}
    </section>
  )
}

function List({ name, list }: { name: string; list: readonly Worker[] }) {
  return (
    <ul class="worker-list" aria-label={name}>
      {list.map((worker) => (
        <One key={worker.name} worker={worker} />
      ))}
    </ul>
  )
}

function One({ worker }: { worker: Worker }) {
  const { name, state, host, pid, release, startedAt, endedAt, rowsPerSecond, held, lastError } = worker
  return (
    <li class={state.toLowerCase()} data-worker={name}>
      <div class="row">
        <p class="host">
          <b>{host}</b>{' '}
          <span class="hint">
            process {pid}, release {release}
          </span>
        </p>
        <p class="worker-state">{words[state]}</p>
      </div>
      <p class="hint">
        {endedAt === null ? (
          <>
            Since <Time at={startedAt} />, {rate(rowsPerSecond)} rows/s
          </>
        ) : (
          <>
            {state === 'STOPPED' ? 'Stopped' : 'Nothing was heard of it'} since <Time at={endedAt} seconds />; it was
            started at <Time at={startedAt} />
          </>
        )}
      </p>
      {held.map((one) => (
        <p key={one.model} class="hint held">
          <HeldOf held={one} hasEnded={endedAt !== null} />
        </p>
      ))}
      {lastError && (
        <p class="hint last-error">
          Last error, <Time at={lastError.at} />: {lastError.message}
          {lastError.code && ` (${lastError.code})`}
        </p>
      )}
    </li>
  )
}

function HeldOf({ held, hasEnded }: { held: Held; hasEnded: boolean }) {
  const { model, inFlight, parked, waitingSince, waitingCode } = held
  return (
    <>
      {model ?? 'Of no table'}: {hasEnded && 'held '}
      {count(inFlight)} in flight{parked > 0 && `, ${count(parked)} parked (they failed alone, and are tried again)`}
      {waitingSince && !hasEnded && (
        <strong class="bad">
          , waits since <Time at={waitingSince} />
          {waitingCode && `: ${waitingCode}`}
        </strong>
      )}
    </>
  )
}

/** One button for both, so that the focus stays. */
function PauseButton() {
  const { status } = useStore(queue)
  const { busy, problem } = useStore(persisting)
  const [isAsking, ask] = useState(false)
  if (!status) return null
  return (
    <div class="buttons">
      {problem && <span class="hint bad">{problem}</span>}
      <button type="button" aria-disabled={busy} onClick={() => (status.paused ? void resumePersisting() : ask(true))}>
        {status.paused ? 'Resume persisting' : 'Pause persisting'}
      </button>
      {isAsking && (
        <Dialog title="Pause persisting?" close={() => ask(false)}>
          <p>
            Workers finish what they hold, and write nothing more. Saves go on being accepted, up to the capacity of{' '}
            {count(status.capacity)} messages; then they are refused.
          </p>
          <p>It stays paused through restarts of everything, until somebody resumes it.</p>
          <div class="buttons end">
            {/* The first one gets the focus: Enter does no harm. */}
            <button type="button" onClick={() => ask(false)}>
              Go on persisting
            </button>
            <button
              type="button"
              class="danger"
              onClick={() => {
                ask(false)
                void pausePersisting()
              }}
            >
              Pause
            </button>
          </div>
        </Dialog>
      )}
    </div>
  )
}
