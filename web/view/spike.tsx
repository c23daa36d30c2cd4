/** Buttons that make a spike, and how far it got: accepted first, in the database later. */
import { count, duration, percent } from '../format.ts'
import { models } from '../models.ts'
import { cancelSpike, type Run, sending, sizes, spike, startSpike, unfillable } from '../spike.ts'
import { useStore } from '../store.ts'

export function Spike() {
  const { run } = useStore(spike)
  const { chosen: model } = useStore(models)
  const busy = sending(run)
  if (!model) return null
  const open = unfillable(model).map(({ name }) => name)
  if (open.length > 0) {
    return (
      <section class="panel" aria-labelledby="spike-title">
        <h2 id="spike-title">Spike</h2>
        <p class="hint">
          Not for {model.name}: {open.join(' and ')} {open.length === 1 ? 'needs a value' : 'need values'} that cannot
          be made up.
        </p>
      </section>
    )
  }
  return (
    <section class="panel" aria-labelledby="spike-title">
      <h2 id="spike-title">Spike</h2>
      <div class="sizes">
        {sizes.map((size) => (
          <button
            key={size}
            type="button"
            aria-label={`Save ${count(size)}`}
            aria-disabled={busy}
            onClick={() => void startSpike(size)}
          >
            {count(size)}
          </button>
        ))}
      </div>
      {run && run.model === model.name ? (
        <Progress run={run} />
      ) : (
        <p class="hint">
          {busy ? `A spike of ${run!.model} is being sent.` : 'So many saves at once. Watch the queue rise and drain.'}
        </p>
      )}
    </section>
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
