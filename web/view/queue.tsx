/** The queue and its history: two charts, the values at one point in time, and the same in words. */
import { useState } from 'preact/hooks'
import { clockOf, count, duration, rate } from '../format.ts'
import {
  type History,
  history,
  inWords,
  mostModels,
  type Point,
  type Quantiles,
  type Range,
  ranges,
  showHistory,
  stepsOf,
} from '../history.ts'
import { models } from '../models.ts'
import { queue } from '../queue.ts'
import { useStore } from '../store.ts'
import { Chart, type Line } from './chart.tsx'
import { Time } from './time.tsx'

const durable = {
  REPLICATED: 'on disk and at replicas before it is acknowledged',
  FSYNC: 'on disk before it is acknowledged',
  EVERYSEC: 'on disk within a second',
  MEMORY: 'in memory only',
}

const flows: readonly Line[] = [
  { value: ({ backlog }) => backlog, scale: 'count', color: '--depth', fill: '--depth-fill' },
  { value: ({ accepted }) => accepted, scale: 'rate', color: '--saves', dash: [5, 3] },
  { value: ({ persisted }) => persisted, scale: 'rate', color: '--persisted' },
  { value: ({ refused }) => refused, scale: 'rate', color: '--refused', dash: [2, 3] },
  { value: ({ deadLettered }) => deadLettered, scale: 'rate', color: '--bad' },
]

const dashes = { p50: undefined, p95: [6, 3], p99: [2, 3] }
const parts = ['p50', 'p95', 'p99'] as const
const durations: readonly Line[] = (['ack', 'saveToEvent'] as const).flatMap((name) =>
  parts.map((part): Line => {
    const dash = dashes[part]
    const color = name === 'ack' ? '--saves' : '--persisted'
    return { value: (point) => point[name]?.[part], scale: 'ms', color, ...(dash && { dash }) }
  }),
)

export function QueuePanel() {
  const { range, model, shown, problem } = useStore(history)
  const { list } = useStore(models)
  return (
    <section class="panel" aria-labelledby="queue-title">
      <div class="row">
        <h2 id="queue-title">
          Queue <small>{ranges[range].long}</small>
        </h2>
        <div class="history-of">
          {list.length > 1 && (
            <select
              aria-label="History of the model"
              value={model}
              onChange={({ currentTarget }) => showHistory({ model: currentTarget.value })}
            >
              <option value="">All models</option>
              {list.slice(0, mostModels).map(({ name }) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          )}
          {/* biome-ignore lint/a11y/useSemanticElements: a fieldset has no use for buttons. */}
          <div class="ranges" role="group" aria-label="Range">
            {(Object.keys(ranges) as Range[]).map((name) => (
              <button
                key={name}
                type="button"
                aria-pressed={name === range}
                onClick={() => name !== range && showHistory({ range: name })}
              >
                {ranges[name].short}
              </button>
            ))}
          </div>
        </div>
      </div>
      {problem && <p class="hint bad">The history cannot be read: {problem}</p>}
      {shown && <Charts shown={shown} range={range} />}
      {!shown && !problem && <p class="hint">Reading the history …</p>}
      <Facts />
    </section>
  )
}

function Charts({ shown, range }: { shown: History; range: Range }) {
  const [at, lookAt] = useState<number>()
  const words = inWords(shown, range)
  if (shown.points.length === 0) return <p class="no-history">{words}</p>
  const steps = stepsOf(shown)
  const step = steps[Math.min(at ?? steps.length - 1, steps.length - 1)]!
  // Until all processes have added to it, the last step may have no point.
  const point = at === undefined ? (step.point ?? steps.at(-2)?.point) : step.point
  const time = at === undefined ? 'now' : clockOf(step.at, shown.stepMs < 60_000)
  const hasDurations = shown.points.some(({ ack, saveToEvent }) => ack ?? saveToEvent)
  return (
    <>
      <ul class="legend" aria-label={`Values ${time}`}>
        <li class="at">{at === undefined ? 'Now' : <Time at={step.at} seconds={shown.stepMs < 60_000} />}</li>
        <Value name="Backlog" of="depth" value={point?.backlog} write={count} />
        <Value name="Accepted/s" of="saves" value={point?.accepted} write={rate} />
        <Value name="Persisted/s" of="persisted" value={point?.persisted} write={rate} />
        <Value name="Refused/s" of="refused" value={point?.refused} write={rate} />
        <Value name="Dead-lettered/s" of="dead-lettered" value={point?.deadLettered} write={rate} />
      </ul>
      <Chart name="flow" label={words} history={shown} lines={flows} height={200} at={at} lookAt={lookAt} />
      <input
        type="range"
        class="moment"
        aria-label="Point in time"
        aria-valuetext={textOf(time, point)}
        min={0}
        max={steps.length - 1}
        value={at ?? steps.length - 1}
        onInput={({ currentTarget: { valueAsNumber: value } }) =>
          lookAt(value === steps.length - 1 ? undefined : value)
        }
      />
      {hasDurations ? (
        <>
          <ul class="legend" aria-label={`Durations ${time}`}>
            <Durations name="To acknowledgement" of="ack" value={point?.ack} />
            <Durations name="To event" of="event" value={point?.saveToEvent} />
          </ul>
          <Chart
            name="durations"
            label={`How long a save took to its acknowledgement, and to its event, in the ${ranges[range].long}.`}
            history={shown}
            lines={durations}
            height={130}
            at={at}
            lookAt={lookAt}
          />
        </>
      ) : (
        <p class="hint">No save was acknowledged in this time, so that there are no durations.</p>
      )}
      <p class="hint in-words">{words}</p>
    </>
  )
}

type Known = number | null | undefined

function Value({ name, of, value, write }: { name: string; of: string; value: Known; write: (n: number) => string }) {
  return (
    <li class={of}>
      {name} <b data-value={of}>{shownAs(value, write)}</b>
    </li>
  )
}

const shownAs = (value: Known, write: (n: number) => string) =>
  value === null || value === undefined ? '–' : write(value)

function Durations({ name, of, value }: { name: string; of: string; value: Quantiles | null | undefined }) {
  return (
    <li class={of}>
      {name}
      {parts.map((part) => [
        ' ',
        <span key={part} class={part}>
          {part} <b data-value={`${of} ${part}`}>{shownAs(value?.[part], duration)}</b>
        </span>,
      ])}
    </li>
  )
}

function textOf(time: string, point: Point | undefined): string {
  if (!point) return `${time}: nothing was counted`
  const { backlog, accepted, persisted } = point
  return `${time}: backlog ${shownAs(backlog, count)}, ${shownAs(accepted, rate)} accepted and ${shownAs(persisted, rate)} persisted per second`
}

function Facts() {
  const { status } = useStore(queue)
  if (!status) return null
  return (
    <dl class="facts">
      <div>
        <dt>In flight</dt>
        <dd>{count(status.inFlight)}</dd>
      </div>
      <div>
        <dt>Oldest</dt>
        <dd>{status.depth > 0 ? duration(status.oldestAgeMs) : 'none'}</dd>
      </div>
      <div>
        <dt>Capacity</dt>
        <dd>{count(status.capacity)}</dd>
      </div>
      <div>
        <dt>Durability</dt>
        <dd>
          {status.durability} <span class="hint">{durable[status.durability]}</span>
        </dd>
      </div>
    </dl>
  )
}
