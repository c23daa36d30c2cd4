/** The list of the dead letters: filter, counts, selection; retry and discard what is selected, or all that match. */
import { lookUp } from '../find.ts'
import { count, plural, time } from '../format.ts'
import { type Letter, letters, loadNewer, loadOlder, narrow, refresh, select, totalOf, use } from '../letters.ts'
import { models } from '../models.ts'
import { anything, type Filter, filterHash } from '../place.ts'
import { queue } from '../queue.ts'
import { isBusy, propose, run } from '../run.ts'
import { useStore } from '../store.ts'
import { Copy } from './copy.tsx'
import { RunStrip } from './run.tsx'

export function Letters() {
  const { filter, list, newer, older, selected, stale, problem, reading } = useStore(letters)
  const { status } = useStore(queue)
  return (
    <section class="panel letters-panel" id="letters" aria-labelledby="letters-title">
      <div class="row">
        <h2 id="letters-title">
          Dead letters {(status?.deadLetters ?? 0) > 0 && <span class="badge">{count(status!.deadLetters)}</span>}
        </h2>
        <span class="unseen" role="status">
          {stale && 'The list of dead letters has changed.'}
        </span>
        {/* Its color says the same as the status, and moves nothing. */}
        <button
          type="button"
          class={stale ? 'primary' : ''}
          title={stale ? 'The list has changed.' : ''}
          aria-disabled={reading}
          onClick={() => void refresh()}
        >
          Refresh
        </button>
      </div>
      <Narrowing />
      <Codes />
      <Actions />
      {problem && (
        <p class="hint bad" role="alert">
          {problem}
        </p>
      )}
      {list.length === 0 ? (
        <p class="hint none">
          {reading
            ? 'Reading…'
            : filterHash(filter) === ''
              ? 'None. What the database refuses waits here until you retry or discard it.'
              : 'None that match.'}
        </p>
      ) : (
        <div
          class="letters-box"
          onPointerEnter={() => use(true)}
          onPointerLeave={({ currentTarget }) => use(currentTarget.contains(document.activeElement))}
          onFocusIn={() => use(true)}
          onFocusOut={({ currentTarget, relatedTarget }) => use(currentTarget.contains(relatedTarget as Node))}
        >
          {newer && (
            <button type="button" class="more" aria-disabled={reading} onClick={() => void loadNewer()}>
              Show newer
            </button>
          )}
          <ul class="letters" aria-label="Dead letters">
            {list.map((letter) => (
              <Line key={letter.cursor} letter={letter} isSelected={selected.has(letter.saveId)} />
            ))}
          </ul>
          {older && (
            <button type="button" class="more" aria-disabled={reading} onClick={() => void loadOlder()}>
              Show more
            </button>
          )}
        </div>
      )}
    </section>
  )
}

/** The keys make a field anew when its value comes from elsewhere, and keep what is being typed. */
function Narrowing() {
  const { filter } = useStore(letters)
  const { list } = useStore(models)
  const { model, reason, after, before } = filter
  const names = list.map(({ name }) => name)
  return (
    <form class="narrowing" aria-label="Filter of the dead letters" onSubmit={(event) => event.preventDefault()}>
      {(names.length > 1 || model !== '') && (
        <select
          aria-label="Dead letters of the model"
          value={model}
          onChange={({ currentTarget }) => narrow({ model: currentTarget.value })}
        >
          <option value="">All models</option>
          {(names.includes(model) || model === '' ? names : [...names, model]).map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      )}
      <input
        key={`reason ${reason}`}
        type="search"
        aria-label="Part of the reason"
        placeholder="Part of the reason"
        maxLength={200}
        defaultValue={reason}
        onChange={({ currentTarget }) => narrow({ reason: currentTarget.value.trim() })}
      />
      <Time label="Failed since" name="after" value={after} />
      <Time label="and before" name="before" value={before} />
    </form>
  )
}

const Time = ({ label, name, value }: { label: string; name: 'after' | 'before'; value: string }) => (
  <label>
    {label}{' '}
    <input
      key={`${name} ${value}`}
      type="datetime-local"
      step="1"
      defaultValue={localTime(value)}
      onChange={({ currentTarget }) => {
        const date = new Date(currentTarget.value)
        narrow({ [name]: Number.isNaN(+date) ? '' : date.toISOString() } as Partial<Filter>)
      }}
    />
  </label>
)

/** As `datetime-local` has it: without an offset. Empty for what is no time. */
function localTime(iso: string): string {
  const date = new Date(iso)
  return Number.isNaN(+date) ? '' : new Date(+date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, -5)
}

function Codes() {
  const { filter, counts } = useStore(letters)
  const codes = counts ?? []
  const shown =
    codes.some(({ code }) => code === filter.code) || filter.code === ''
      ? codes
      : [...codes, { code: filter.code, count: 0 }]
  return (
    <ul class="codes" aria-label="Codes">
      {shown.map(({ code, count: n }) => (
        <li key={code}>
          <button
            type="button"
            aria-pressed={code === filter.code}
            onClick={() => narrow({ code: code === filter.code ? '' : code })}
          >
            <span class="code">{code}</span> {counts ? count(n) : ''}
          </button>
        </li>
      ))}
    </ul>
  )
}

/** The buttons stay where they are, whatever they act on and whatever is asked. */
function Actions() {
  const state = useStore(letters)
  useStore(run)
  const { filter, list, selected } = state
  const total = totalOf(state)
  const isFiltered = filterHash(filter) !== ''
  const which = selected.size > 0 ? { ids: [...selected] } : { filter }
  const what = selected.size > 0 ? `${count(selected.size)} selected` : isFiltered ? 'all that match' : 'all'
  const shown = [...new Set(list.map(({ saveId }) => saveId))]
  const isNone = list.length === 0 || isBusy()
  const begin = (kind: 'retry' | 'discard') => {
    if (list.length > 0) void propose(kind, which, 'list')
  }
  return (
    <>
      <div class="row total">
        <p class="hint" data-total={total}>
          {total !== undefined &&
            `${plural(total, 'dead letter')}${isFiltered ? (total === 1 ? ' matches' : ' match') : ''}, ${count(list.length)} shown.`}
        </p>
        {isFiltered && (
          <button type="button" class="link" onClick={() => narrow(anything)}>
            Clear the filter
          </button>
        )}
      </div>
      <div class="actions">
        <label class="all">
          <input
            type="checkbox"
            aria-label="Select all shown"
            checked={shown.length > 0 && selected.size === shown.length}
            onChange={({ currentTarget }) => select(shown, currentTarget.checked)}
          />
        </label>
        <button type="button" aria-disabled={isNone} onClick={() => begin('retry')}>
          Retry {what}…
        </button>
        <button type="button" class="danger" aria-disabled={isNone} onClick={() => begin('discard')}>
          Discard {what}…
        </button>
      </div>
      <RunStrip at="list">
        <p class="hint">{list.length > 0 && 'Select some to retry or discard these alone.'}</p>
      </RunStrip>
    </>
  )
}

function Line({ letter, isSelected }: { letter: Letter; isSelected: boolean }) {
  const { saveId, model, code, reason, failedAt } = letter
  return (
    <li class={isSelected ? 'selected' : ''}>
      <input
        type="checkbox"
        aria-label={`Select ${saveId}`}
        checked={isSelected}
        onChange={({ currentTarget }) => select([saveId], currentTarget.checked)}
      />
      <button type="button" class="open" onClick={() => lookUp(saveId)}>
        <span class="head">
          <time dateTime={failedAt}>{time(failedAt)}</time>
          <span class="code">{code}</span>
          {model !== null && <span>{model}</span>}
        </span>
        <span class="reason" dir="auto">
          {reason}
        </span>
      </button>
      <span class="foot">
        <code class="id" title={saveId}>
          {saveId.length > 16 ? `${saveId.slice(0, 8)}…${saveId.slice(-4)}` : saveId}
        </code>
        <Copy text={saveId} of={`the id ${saveId}`} />
      </span>
    </li>
  )
}
