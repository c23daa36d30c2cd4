/** The page: what is wrong first, then the queue and what operators do about it, then what is saved. */
import { access } from '../access.ts'
import { shown } from '../status.ts'
import { useStore } from '../store.ts'
import { Feed } from './feed.tsx'
import { Find } from './find.tsx'
import { Flow } from './flow.tsx'
import { Keys } from './keys.tsx'
import { Letters } from './letters.tsx'
import { ModelSwitch } from './model.tsx'
import { QueuePanel } from './queue.tsx'
import { Said } from './said.tsx'
import { Save } from './save.tsx'
import { Spike } from './spike.tsx'
import { Status } from './status.tsx'
import { Missing, Token } from './token.tsx'
import { WorkersPanel } from './workers.tsx'

export function App() {
  const { may } = useStore(access)
  return (
    <>
      <header class="top">
        <h1>
          <Mark /> Spillway
        </h1>
        <Connection />
      </header>
      <main>
        <Status />
        <Token />
        <Flow />
        {/* The order on a phone, and of the tab key. */}
        <div class="columns">
          <div class="column">
            {may.admin && <QueuePanel />}
            {may.admin && (
              <div id="dead-letters" tabIndex={-1}>
                <Letters />
              </div>
            )}
            <Missing right="admin" />
            <Find />
            {may.admin && <WorkersPanel />}
          </div>
          <div class="column">
            <ModelSwitch />
            {may.write ? <Save /> : <Missing right="write" />}
            {may.read ? <Feed /> : <Missing right="read" />}
          </div>
        </div>
        {may.write && <Spike />}
      </main>
      <footer>
        <p>
          A save is acknowledged as soon as it is safe in the queue; workers write the queue to the database in batches.
          A spike of traffic makes the queue longer and never reaches the database.
        </p>
        <Keys />
      </footer>
      <Said />
    </>
  )
}

const words = {
  connecting: 'Connecting',
  live: 'Live',
  lost: 'Reconnecting',
  'signed out': 'Signed out',
}

/** The connection alone: the status says whether Spillway works. */
function Connection() {
  const { connection } = useStore(shown)
  return <p class={`connection ${connection.replace(' ', '-')}`}>{words[connection]}</p>
}

function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
      <rect width="32" height="32" rx="7" class="mark" />
      <path d="M6 9h8c5 0 4 14 9 14h3" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round" />
      <path d="M6 16h4M6 23h8" fill="none" stroke="#fff" stroke-opacity=".6" stroke-width="3" stroke-linecap="round" />
    </svg>
  )
}
