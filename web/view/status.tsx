/** What is wrong comes first: the state in words, each thing that is wrong with what to do about it, and the number of dead letters. */
import { useRef } from 'preact/hooks'
import { access } from '../access.ts'
import { plural } from '../format.ts'
import { persisting, resumePersisting } from '../persisting.ts'
import { queue } from '../queue.ts'
import { type Notice, shown } from '../status.ts'
import { useStore } from '../store.ts'
import { Time } from './time.tsx'

const words = {
  connecting: ['Connecting.', ''],
  working: ['Working.', 'Saves are accepted, and workers write them to the database.'],
  'signed out': ['Signed out.', 'Sign in with a token to see the status.'],
  'not allowed': ['The status is not shown.', 'It takes a token with the scope admin.'],
}

export function Status() {
  const { state, notices, news } = useStore(shown)
  const { status } = useStore(queue)
  const { may } = useStore(access)
  const section = useRef<HTMLElement>(null)
  const letters = (may.admin && status?.deadLetters) || 0
  const [title, text] = state === 'wrong' ? [] : words[state]
  return (
    <section class="status" aria-label="Status" tabIndex={-1} ref={section}>
      <div class="row">
        {title && (
          <p class={`state ${state.replace(' ', '-')}`} data-state={state}>
            <strong>{title}</strong> {text}
          </p>
        )}
        {letters > 0 && (
          <a class="to-letters" href="#dead-letters">
            {plural(letters, 'dead letter')}
          </a>
        )}
      </div>
      {notices.length > 0 && (
        <ul class="notices" aria-label="What is wrong">
          {notices.map((notice) => (
            <Line key={notice.id} notice={notice} resumed={() => section.current!.focus()} />
          ))}
        </ul>
      )}
      <p class="unseen" aria-live="polite" data-news>
        {news}
      </p>
    </section>
  )
}

function Line({ notice, resumed }: { notice: Notice; resumed: () => void }) {
  const { id, level, title, since, end, text, lastError } = notice
  return (
    <li class={`banner ${level}`} data-condition={id}>
      <p>
        <strong>
          {title}
          {since && (
            <>
              {' since '}
              <Time at={since} />
            </>
          )}
          {end}.
        </strong>{' '}
        {text}
      </p>
      {lastError && (
        <p class="last-error">
          Last error, <Time at={lastError.at} />: {lastError.message}
          {lastError.code && ` (${lastError.code})`}
        </p>
      )}
      {id === 'paused' && <Resume resumed={resumed} />}
    </li>
  )
}

/** The button goes with what it ends: the focus stays in the status. */
function Resume({ resumed }: { resumed: () => void }) {
  const { busy, problem } = useStore(persisting)
  const resume = async () => {
    if (await resumePersisting()) resumed()
  }
  return (
    <p class="buttons">
      <button type="button" aria-disabled={busy} onClick={() => void resume()}>
        Resume
      </button>
      {problem && <span class="hint bad">{problem}</span>}
    </p>
  )
}
