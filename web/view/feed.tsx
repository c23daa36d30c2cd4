/** The live feed: newest on top. Only the rows in sight are in the document, however many there are. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { textOf as messageOf, problemOf } from '../client.ts'
import { feed, hold, keptRows, loadOlder, readRow } from '../feed.ts'
import { count, duration, plural, time } from '../format.ts'
import { type Excerpt, type Model, models, type Row, textOf } from '../models.ts'
import { useStore } from '../store.ts'
import { Close, Dialog } from './dialog.tsx'
import { Filter } from './filter.tsx'

const rowHeight = 34
const overscan = 8

export function Feed() {
  const { rows, newer, filter, state, caughtUp, hasOlder, loadingOlder, problem } = useStore(feed)
  const { chosen: model } = useStore(models)
  const box = useRef<HTMLDivElement>(null)
  const [top, setTop] = useState(0)
  const [shown, show] = useState<Excerpt>()
  const height = useHeight(box)
  const newest = useRef<string | undefined>(undefined)

  // Who reads further down, or has the focus on a row, keeps it before the eyes: what came on top is scrolled by.
  useLayoutEffect(() => {
    const before = newest.current
    newest.current = rows[0]?.id
    const reading = box.current!.scrollTop > rowHeight / 2 || box.current!.querySelector(':focus') !== null
    if (!before || before === newest.current || !reading) return
    let added = 0
    while (added < rows.length && rows[added]!.id !== before) added += 1
    if (added < rows.length) box.current!.scrollTop += added * rowHeight
  }, [rows])

  const first = Math.max(0, Math.floor(top / rowHeight) - overscan)
  const end = Math.min(rows.length, Math.ceil((top + height) / rowHeight) + overscan)
  const visible = rows.slice(first, end)
  return (
    <section class="panel feed" aria-labelledby="feed-title">
      <div class="row">
        <h2 id="feed-title">
          Live feed <small>newest first</small>
        </h2>
        <p class="hint" data-feed={state} data-caught-up={caughtUp}>
          {wordsFor(state, caughtUp) || (rows.length > 0 ? `${plural(rows.length, 'row')} loaded` : '')}
        </p>
        <button type="button" onClick={() => hold(newer === undefined)}>
          {newer === undefined ? 'Hold the list' : newer === 0 ? 'Go on' : `Go on: ${count(newer)} new`}
        </button>
      </div>
      {model && model.by.length > 0 && <Filter key={model.name} model={model} />}
      {problem && <p class="hint bad">{problem}</p>}
      <div class="scroller">
        {top > rowHeight && (
          <button type="button" class="to-top" onClick={() => box.current!.scrollTo({ top: 0 })}>
            ↑ Newest
          </button>
        )}
        <section
          class="rows"
          ref={box}
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard.
          tabIndex={0}
          aria-label={model ? `Saved ${model.names.many}` : 'Saved rows'}
          onScroll={() => setTop(box.current!.scrollTop)}
        >
          {rows.length === 0 ? (
            <p class="empty">{filter && state === 'live' ? 'No row has these values yet.' : emptyText(state)}</p>
          ) : (
            <ul style={{ height: `${rows.length * rowHeight}px` }}>
              {visible.map((row, i) => (
                <li
                  key={row.id}
                  style={{ transform: `translateY(${(first + i) * rowHeight}px)` }}
                  aria-posinset={first + i + 1}
                  aria-setsize={rows.length}
                >
                  <button type="button" onClick={() => show(row)}>
                    <time dateTime={row.createdAt}>{time(row.createdAt)}</time>
                    <span class="text" dir="auto">
                      {row.line}
                    </span>
                    <span class="took">{duration(took(row))}</span>
                  </button>
                </li>
              ))}
            </ul>
          )}
          {hasOlder && rows.length < keptRows && (
            <button type="button" class="more" aria-disabled={loadingOlder} onClick={() => void loadOlder()}>
              {loadingOlder ? 'Loading …' : 'Load older'}
            </button>
          )}
        </section>
      </div>
      {model && shown && <Whole model={model} row={shown} close={() => show(undefined)} />}
    </section>
  )
}

function emptyText(state: ReturnType<typeof feed.get>['state']): string {
  if (state === 'connecting') return 'Connecting …'
  if (state === 'lost') return 'The server cannot be reached.'
  return state === 'refused' ? 'No row can be shown.' : 'Nothing is saved yet. Save something, or make a spike.'
}

function wordsFor(state: ReturnType<typeof feed.get>['state'], caughtUp: number): string {
  if (state === 'lost') return 'cut off; it goes on where it was'
  if (state === 'catching up') return 'catching up'
  if (caughtUp < 0) return 'too many rows were missed: the list was read again'
  return caughtUp > 0 ? `caught up ${count(caughtUp)} missed` : ''
}

const took = (row: Excerpt) => Date.parse(row.savedAt) - Date.parse(row.createdAt)

function Whole({ model, row: excerpt, close }: { model: Model; row: Excerpt; close: () => void }) {
  const [row, show] = useState<Row | null | undefined>(excerpt.row)
  const [problem, explain] = useState('')
  useEffect(() => {
    readRow(excerpt).then(show, (error) => explain(messageOf(problemOf(error))))
  }, [])
  if (!row) {
    return (
      <Dialog title={model.name} close={close}>
        <p class="text whole" dir="auto">
          {excerpt.line}
        </p>
        <p role="status" class={problem ? 'hint bad' : 'hint'}>
          {problem ||
            (row === null
              ? 'This is its beginning. The row is gone: the database no longer has it.'
              : 'Reading the whole row …')}
        </p>
        <Close close={close} />
      </Dialog>
    )
  }
  const [only] = model.columns.length === 1 ? model.columns : []
  return (
    <Dialog title={model.name} close={close}>
      {only ? (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard.
        <p class="text whole" dir="auto" tabIndex={0}>
          {textOf(row[only.name])}
        </p>
      ) : (
        <dl class="text whole values" tabIndex={0}>
          {model.columns.map(({ name }) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd dir="auto">{row[name] === null ? <em>null</em> : textOf(row[name])}</dd>
            </div>
          ))}
        </dl>
      )}
      <dl class="facts">
        <div>
          <dt>Id</dt>
          <dd class="id">{row.id}</dd>
        </div>
        <div>
          <dt>Accepted</dt>
          <dd>{row.createdAt}</dd>
        </div>
        <div>
          <dt>Written</dt>
          <dd>
            {row.savedAt} <span class="hint">after {duration(took(excerpt))}</span>
          </dd>
        </div>
      </dl>
      <Close close={close} />
    </Dialog>
  )
}

function useHeight(box: { readonly current: HTMLElement | null }): number {
  const [height, set] = useState(480)
  useEffect(() => {
    const resized = new ResizeObserver(() => set(box.current!.clientHeight))
    resized.observe(box.current!)
    return () => resized.disconnect()
  }, [])
  return height
}
