/** The dead letters: reason, attempts and input; retry, or discard permanently. */
import { useState } from 'preact/hooks'
import { count, plural, time } from '../format.ts'
import { discard, type Letter, letters, loadMore, retry, retryAll, showOnly } from '../letters.ts'
import { models } from '../models.ts'
import { queue } from '../queue.ts'
import { useStore } from '../store.ts'
import { Dialog } from './dialog.tsx'

export function Letters() {
  const { model, list, hasMore, busy, problem } = useStore(letters)
  const { list: all } = useStore(models)
  const { status } = useStore(queue)
  const [asking, ask] = useState<Letter>()
  const total = Math.max(list.length, status?.deadLetters ?? 0)
  return (
    <section class="panel letters-panel" aria-labelledby="letters-title">
      <div class="row">
        <h2 id="letters-title">Dead letters {total > 0 && <span class="badge">{count(total)}</span>}</h2>
        {all.length > 1 && total > 0 && (
          <select
            aria-label="Dead letters of the model"
            value={model}
            onChange={({ currentTarget }) => void showOnly(currentTarget.value)}
          >
            <option value="">All models</option>
            {all.map(({ name }) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        )}
        {list.length > 0 && (
          <button type="button" aria-disabled={busy} onClick={() => void retryAll()}>
            Retry all
          </button>
        )}
      </div>
      {problem && <p class="hint bad">{problem}</p>}
      {list.length === 0 ? (
        <p class="hint">
          {model === ''
            ? 'None. What the database refuses waits here until you retry or discard it.'
            : `None of ${model}.`}
        </p>
      ) : (
        <ul class="letters" aria-label="Dead letters" tabindex={0}>
          {list.map((letter) => (
            <li key={letter.cursor}>
              <div class="row">
                <span class="code">{letter.failure.code}</span>
                {letter.model !== null && <span class="hint">{letter.model}</span>}
                <span class="hint">
                  {plural(letter.failure.attempts, 'attempt')}, {time(letter.failure.failedAt)}
                </span>
              </div>
              <p class="text" dir="auto">
                {letter.input === null ? (
                  <em>Its message cannot be read.</em>
                ) : (
                  JSON.stringify(letter.input).slice(0, 300)
                )}
              </p>
              <p class="hint">{letter.failure.message}</p>
              <div class="buttons">
                <button type="button" aria-disabled={busy} onClick={() => void retry([letter.saveId])}>
                  Retry
                </button>
                <button type="button" class="danger" aria-disabled={busy} onClick={() => ask(letter)}>
                  Discard
                </button>
              </div>
            </li>
          ))}
        </ul>
      )}
      {hasMore && (
        <button type="button" class="more" onClick={() => void loadMore()}>
          Load more
        </button>
      )}
      {asking && (
        <Dialog title="Discard this dead letter?" close={() => ask(undefined)}>
          <p class="text whole" dir="auto">
            {asking.input === null ? asking.saveId : JSON.stringify(asking.input).slice(0, 500)}
          </p>
          <p>
            It is deleted permanently, with all other dead letters of its id: it was never saved, and cannot be
            restored.
          </p>
          <div class="buttons end">
            {/* The first one gets the focus: Enter does no harm. */}
            <button type="button" onClick={() => ask(undefined)}>
              Keep
            </button>
            <button
              type="button"
              class="danger"
              onClick={() => {
                ask(undefined)
                void discard([asking.saveId])
              }}
            >
              Discard
            </button>
          </div>
        </Dialog>
      )}
    </section>
  )
}
