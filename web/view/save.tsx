/** The box and the button, and what became of what was typed. */
import type { TargetedKeyboardEvent } from 'preact'
import { useRef } from 'preact/hooks'
import { duration } from '../format.ts'
import { outbox, type Sent, submit } from '../outbox.ts'
import { useStore } from '../store.ts'

export function Save() {
  const { sent } = useStore(outbox)
  const box = useRef<HTMLTextAreaElement>(null)
  const save = () => {
    const { value } = box.current!
    if (value !== '') {
      submit(value)
      box.current!.value = ''
    }
    box.current!.focus()
  }
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLTextAreaElement>) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    save()
  }
  const edit = (content: string) => {
    box.current!.value = content
    box.current!.focus()
  }
  return (
    <section class="panel" aria-labelledby="save-title">
      <h2 id="save-title">Save</h2>
      <form
        class="save"
        onSubmit={(event) => {
          event.preventDefault()
          save()
        }}
      >
        <label class="unseen" for="content">
          Content
        </label>
        <textarea
          id="content"
          ref={box}
          rows={2}
          dir="auto"
          placeholder="Something to save"
          aria-describedby="save-hint"
          onKeyDown={onKeyDown}
        />
        <div class="row">
          <span class="hint" id="save-hint">
            Enter saves, Shift + Enter makes a new line
          </span>
          <button type="submit" class="primary">
            Save
          </button>
        </div>
      </form>
      {sent.length > 0 && (
        <ul class="sent" aria-label="What you saved" tabindex={0}>
          {sent.map((one) => (
            <Outcome key={one.id} sent={one} edit={edit} />
          ))}
        </ul>
      )}
    </section>
  )
}

function Outcome({ sent, edit }: { sent: Sent; edit: (content: string) => void }) {
  const { content, state, reason } = sent
  return (
    <li class={state} data-state={state}>
      <span class="text" dir="auto" title={content.slice(0, 1_000)}>
        {content.slice(0, 500)}
      </span>
      <span class="state">{wordsFor(sent)}</span>
      {reason && (
        <span class="reason">
          {reason}
          {state === 'failed' && (
            <button type="button" class="link" onClick={() => edit(content)}>
              Edit
            </button>
          )}
        </span>
      )}
    </li>
  )
}

function wordsFor({ state, queuedMs, savedMs }: Sent): string {
  switch (state) {
    case 'sending':
      return 'queuing'
    case 'retrying':
      return 'retrying'
    case 'queued':
      return `queued ${duration(queuedMs!)}`
    case 'saved':
      return `saved ${duration(savedMs!)}`
    case 'failed':
      return 'failed'
  }
}
