/** The page: what the system does, the flow with its numbers, and the panels. */
import { access } from '../access.ts'
import { feed } from '../feed.ts'
import { queue } from '../queue.ts'
import { useStore } from '../store.ts'
import { Banners } from './banners.tsx'
import { Feed } from './feed.tsx'
import { Find } from './find.tsx'
import { Flow } from './flow.tsx'
import { Letters } from './letters.tsx'
import { ModelSwitch } from './model.tsx'
import { QueuePanel } from './queue.tsx'
import { Said } from './said.tsx'
import { Save } from './save.tsx'
import { Spike } from './spike.tsx'
import { Token } from './token.tsx'

export function App() {
  const { may } = useStore(access)
  return (
    <>
      <header class="top">
        <h1>
          <Mark /> Spillway
        </h1>
        <p>
          A save is acknowledged as soon as it is safe in the queue; workers write the queue to the database in batches.
          A spike of traffic makes the queue longer and never reaches the database.
        </p>
        <Connection />
      </header>
      <main>
        <Token />
        <Find />
        <Flow />
        <Banners />
        <ModelSwitch />
        <div class="columns">
          <div class="column">
            {may.write && <Save />}
            {may.admin && <Letters />}
          </div>
          <div class="column">
            {may.admin && <QueuePanel />}
            {may.read && <Feed />}
          </div>
        </div>
        {may.write && <Spike />}
      </main>
      <Said />
    </>
  )
}

const words = {
  connecting: 'Connecting',
  live: 'Live',
  'catching up': 'Catching up',
  refused: 'Not allowed',
  lost: 'Reconnecting',
  paused: 'Paused',
}

function Connection() {
  const { state } = useStore(feed)
  const { lostSince } = useStore(queue)
  const shown = lostSince === undefined ? state : 'lost'
  return <p class={`connection ${shown.replace(' ', '-')}`}>{words[shown]}</p>
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
