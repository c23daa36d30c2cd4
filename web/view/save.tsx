/** The form of the chosen model and its button, and what became of what was typed. */
import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { readTyped, type Texts, type Typed } from '../form.ts'
import { duration } from '../format.ts'
import { type Column, choose, type Model, modelNamed, models, sentColumns } from '../models.ts'
import { outbox, type Sent, submit, typedFor } from '../outbox.ts'
import { useStore } from '../store.ts'
import { Field, fieldOf, fill, typedIn } from './field.tsx'

export function Save() {
  const { chosen: model } = useStore(models)
  const { sent } = useStore(outbox)
  const [edited, edit] = useState<Sent>()
  if (!model) return null
  return (
    <section class="panel" aria-labelledby="save-title">
      <h2 id="save-title">Save</h2>
      <Form
        key={`${model.name} ${edited?.id}`}
        model={model}
        texts={edited?.model === model.name ? typedFor(model, edited) : undefined}
      />
      {sent.length > 0 && (
        <ul class="sent" aria-label="What you saved" tabindex={0}>
          {sent.map((one) => (
            <Outcome
              key={one.id}
              sent={one}
              edit={() => {
                choose(one.model)
                edit({ ...one, id: `${one.id} ${performance.now()}` })
              }}
            />
          ))}
        </ul>
      )}
    </section>
  )
}

/** `texts`: what to begin with. */
function Form({ model, texts }: { model: Model; texts: Typed | undefined }) {
  const form = useRef<HTMLFormElement>(null)
  const columns = sentColumns(model)
  const [problems, show] = useState<Texts>({})
  /** The columns whose field means an empty text while nothing is typed into it. */
  const [empty, setEmpty] = useState<readonly Column[]>(() => columns.filter(({ name }) => texts?.[name] === ''))
  // The fields keep their own text; the form is mounted anew for other texts.
  useLayoutEffect(() => {
    fill(form.current!, columns, texts ?? {})
    if (texts && columns[0]) fieldOf(form.current!, columns[0]).focus()
  }, [])
  const save = (empty: readonly Column[]) => {
    const typed: Typed = {}
    for (const column of columns) {
      const text = typedIn(form.current!, column)
      if (text !== undefined) typed[column.name] = text
      else if (empty.includes(column)) typed[column.name] = ''
    }
    const { values, problems } = readTyped(model, typed)
    const wrong = columns.find(({ name }) => problems[name])
    show(problems)
    setEmpty(wrong ? empty : [])
    if (!wrong) {
      submit(model.name, values, typed)
      fill(form.current!, columns, {})
    }
    const focused = wrong ?? columns[0]
    if (focused) fieldOf(form.current!, focused).focus()
  }
  const fromToken = model.columns.filter((column) => column.fromToken).map(({ name }) => name)
  return (
    <form
      class="save"
      noValidate
      ref={form}
      onSubmit={(event) => {
        event.preventDefault()
        save(empty)
      }}
    >
      {columns.map((column) => (
        <Field
          key={column.name}
          column={column}
          only={columns.length === 1}
          problem={problems[column.name]}
          isEmpty={empty.includes(column)}
          save={() => save(empty)}
          saveEmpty={() => save([...empty, column])}
        />
      ))}
      {fromToken.length > 0 && <p class="hint">From the token: {fromToken.join(', ')}</p>}
      <div class="row">
        <span class="hint" id="save-hint">
          Enter saves, Shift + Enter makes a new line
        </span>
        <button type="submit" class="primary">
          Save
        </button>
      </div>
    </form>
  )
}

function Outcome({ sent, edit }: { sent: Sent; edit: () => void }) {
  const { text, state, reason, model } = sent
  return (
    <li class={state} data-state={state}>
      <span class="text" dir="auto" title={text.slice(0, 1_000)}>
        {text.slice(0, 500)}
      </span>
      <span class="state">{wordsFor(sent)}</span>
      {reason && (
        <span class="reason">
          {reason}
          {state === 'failed' && modelNamed(model) && (
            <button type="button" class="link" onClick={edit}>
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
