/** Buttons that make a spike, and how far it got: accepted first, in the database later. */
import { count, duration, percent } from '../format.ts'
import { cancelSpike, type Run, sending, sizes, spike, startSpike } from '../spike.ts'
import { useStore } from '../store.ts'

export function Spike() {
  const { run } = useStore(spike)
  const busy = sending(run)
  return (
    <section class="panel" aria-labelledby="spike-title">
      <h2 id="spike-title">Spike</h2>
      <div class="buttons">
        {sizes.map((size) => (
          <button key={size} type="button" aria-disabled={busy} onClick={() => void startSpike(size)}>
            Save {count(size)}
          </button>
        ))}
        {busy && (
          <button type="button" class="danger" onClick={cancelSpike}>
            Cancel
          </button>
        )}
      </div>
      {run ? <Progress run={run} /> : <p class="hint">Thousands of saves at once. Watch the queue rise and drain.</p>}
    </section>
  )
}

function Progress({ run }: { run: Run }) {
  const { size, sent, accepted, saved, acceptedMs, savedMs, cancelled, problem, failed } = run
  const all = cancelled || failed ? Math.min(sent, size) : size
  return (
    <div class="progress">
      <Bar name="Accepted" value={accepted} all={size} after={acceptedMs} />
      <Bar name="In the database" value={saved} all={size} after={savedMs} />
      <p class={problem ? 'hint bad' : 'hint'} data-spike={savedMs === undefined ? 'running' : 'done'}>
        {problem ||
          (savedMs !== undefined
            ? `${cancelled ? 'Cancelled: ' : ''}${count(saved)} accepted in ${duration(acceptedMs!)}, written in ${duration(savedMs)}.`
            : cancelled
              ? `Cancelled. Of ${count(all)} on their way, what is accepted is still written.`
              : acceptedMs === undefined
                ? 'Sending …'
                : `All acknowledged, ${count(accepted - saved)} still in the queue.`)}
      </p>
    </div>
  )
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
