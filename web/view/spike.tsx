/**
 * A spike, as a demonstration: behind a disclosure, last on the page, where nothing that grows can push it under the pointer; and how far it
 * got, accepted first, in the database later.
 */
import { useState } from 'preact/hooks'
import { count, duration, percent } from '../format.ts'
import { type Model, models } from '../models.ts'
import { cancelSpike, isOffered, type Run, sending, sizes, spike, startSpike, unfillable } from '../spike.ts'
import { useStore } from '../store.ts'
import { Dialog } from './dialog.tsx'

export function Spike() {
  const { run } = useStore(spike)
  const { chosen: model } = useStore(models)
  const [size, ask] = useState<number>()
  if (!isOffered || !model) return null
  const open = unfillable(model).map(({ name }) => name)
  return (
    <details class="panel spike">
      <summary>
        <h2>Spike</h2> <span class="hint">a demonstration: many saves at once</span>
      </summary>
      {open.length > 0 ? (
        <p class="hint">
          Not for {model.name}: {open.join(' and ')} {open.length === 1 ? 'needs a value' : 'need values'} that cannot
          be made up.
        </p>
      ) : (
        <Sizes busy={sending(run)} ask={ask} />
      )}
      {run && run.model === model.name ? (
        <Progress run={run} />
      ) : (
        <p class="hint">
          {sending(run)
            ? `A spike of ${run!.model} is being sent.`
            : 'Watch the queue rise and drain. The rows stay in the database.'}
        </p>
      )}
      {size !== undefined && <Confirm model={model} size={size} close={() => ask(undefined)} />}
    </details>
  )
}

function Sizes({ busy, ask }: { busy: boolean; ask: (size: number) => void }) {
  return (
    <div class="sizes">
      {sizes.map((size) => (
        <button
          key={size}
          type="button"
          aria-label={`Spike of ${count(size)} rows`}
          aria-disabled={busy}
          onClick={() => !busy && ask(size)}
        >
          {count(size)} …
        </button>
      ))}
    </div>
  )
}

function Confirm({ model, size, close }: { model: Model; size: number; close: () => void }) {
  return (
    <Dialog title={`Write ${count(size)} rows of ${model.name} into the database?`} close={close}>
      <p>
        Each is a made-up row, and all of them are written for good: the console cannot remove them, and all who read{' '}
        {model.names.many} see them.
      </p>
      <div class="buttons end">
        {/* The first one gets the focus: Enter does no harm. */}
        <button type="button" onClick={close}>
          Write nothing
        </button>
        <button
          type="button"
          class="danger"
          onClick={() => {
            close()
            void startSpike(size)
          }}
        >
          Write {count(size)} rows
        </button>
      </div>
    </Dialog>
  )
}

function Progress({ run }: { run: Run }) {
  const { size, accepted, saved, acceptedMs, savedMs, cancelled, problem } = run
  return (
    <div class="progress">
      <Bar name="Accepted" value={accepted} all={size} after={acceptedMs} />
      <Bar name="In the database" value={saved} all={size} after={savedMs} />
      <div class="row">
        <p class={problem ? 'hint bad' : 'hint'} data-spike={savedMs === undefined ? 'running' : 'done'}>
          {problem || wordsFor(run)}
        </p>
        {sending(run) && !cancelled && (
          <button type="button" class="danger" onClick={cancelSpike}>
            Cancel
          </button>
        )}
      </div>
    </div>
  )
}

function wordsFor({ sent, size, accepted, saved, acceptedMs, savedMs, cancelled }: Run): string {
  if (savedMs !== undefined) {
    const how = cancelled ? `Cancelled after ${count(accepted)}: accepted` : `${count(saved)} accepted`
    return `${how} in ${duration(acceptedMs!)}, written in ${duration(savedMs)}.`
  }
  if (cancelled) return `Cancelled after ${count(Math.min(sent, size))}; what is accepted is still written.`
  if (acceptedMs === undefined) return 'Sending …'
  return `All acknowledged, ${count(accepted - saved)} still in the queue.`
}

function Bar({ name, value, all, after }: { name: string; value: number; all: number; after: number | undefined }) {
  const id = `bar-${name.replaceAll(' ', '-')}`
  return (
    <div class="bar">
      <label for={id}>{name}</label>
      <span>
        {count(value)} of {count(all)}
        {after === undefined ? '' : ` · ${duration(after)}`}
      </span>
      <progress id={id} value={value} max={all}>
        {percent(value, all)}
      </progress>
    </div>
  )
}
