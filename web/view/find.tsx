/** The field that looks an id up, and what is known of it: receipt, row, dead letters. */
import { useRef } from 'preact/hooks'
import { access } from '../access.ts'
import { close, type FoundReceipt, find, load, lookUp, type Part } from '../find.ts'
import { plural } from '../format.ts'
import { findHash, linkTo } from '../place.ts'
import { run } from '../run.ts'
import { useStore } from '../store.ts'
import { Copy } from './copy.tsx'
import { Dialog } from './dialog.tsx'
import { Json, Letter, Moment, pretty } from './letter.tsx'
import { RunStrip } from './run.tsx'

export function Find() {
  const { may } = useStore(access)
  const { id, receipt, row, letters } = useStore(find)
  const field = useRef<HTMLInputElement>(null)
  if (!may.admin) return null
  const isAnswered = receipt !== undefined || row !== undefined || letters !== undefined
  return (
    <search class="find">
      <form
        onSubmit={(event) => {
          event.preventDefault()
          const text = field.current!.value.trim()
          if (text !== '') lookUp(text)
          field.current!.value = ''
        }}
      >
        <label for="find-input">Find</label>
        <input
          id="find-input"
          ref={field}
          placeholder="The id of a save"
          autocomplete="off"
          spellcheck={false}
          maxLength={200}
        />
        <button type="submit">Find</button>
        <span class="hint" role="status">
          {id !== '' && !isAnswered && 'Looking…'}
        </span>
      </form>
      {id !== '' && isAnswered && <Found key={id} />}
    </search>
  )
}

function Found() {
  const { id, receipt, row, letters } = useStore(find)
  const known = [receipt, row, letters].map((part) => (part && 'value' in part ? part.value : undefined))
  const isUnknown = known[0] === null && known[1] === null && (known[2] as { count: number } | undefined)?.count === 0
  return (
    <Dialog title={`Id ${id}`} close={close}>
      <div class="found">
        <div class="buttons">
          <Copy text={id} label="Copy id" />
          <Copy text={linkTo(findHash(id))} label="Copy link" />
          <button type="button" onClick={() => void load()}>
            Refresh
          </button>
          <button type="button" onClick={close}>
            Close
          </button>
        </div>
        {isUnknown ? <Unknown id={id} /> : <Parts />}
      </div>
    </Dialog>
  )
}

const uuid = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i

const Unknown = ({ id }: { id: string }) =>
  uuid.test(id) ? (
    <div>
      <h3>This id is not known here.</h3>
      <p>There is no receipt, no row and no dead letter with it. One of these happened:</p>
      <ul class="reasons">
        <li>No save with this id was acknowledged here: it was refused, never arrived, or went to another server.</li>
        <li>It was saved, its row was deleted afterwards, and the queue has forgotten its receipt.</li>
        <li>It was a dead letter, and somebody discarded it.</li>
      </ul>
    </div>
  ) : (
    <div>
      <h3>This is no id.</h3>
      <p>
        An id has 32 hexadecimal digits in five groups: <code>0198c0de-7a3e-7c21-9f00-5b8d1e2f3a4c</code>. A dead letter
        without an id has the handle that the queue gave it, as the list shows it.
      </p>
    </div>
  )

function Parts() {
  const { id, receipt, row, letters } = useStore(find)
  const { current } = useStore(run)
  const found = letters && 'value' in letters ? letters.value.list : []
  const hasStrip = found.length > 0 || current?.at === 'find'
  const plain = found.filter(({ failure }) => failure.code !== 'ID_CONFLICT')
  // The others the server would not take.
  const editable = plain.length > 0 ? plain : found
  return (
    <>
      <section>
        <h3>Receipt</h3>
        <Shown part={receipt}>{(value) => <Receipt receipt={value} />}</Shown>
      </section>
      <section>
        <h3>Dead letters</h3>
        {hasStrip && (
          <RunStrip at="find">
            <p class="hint">
              A retry puts the save back into the queue under its id, as it is; an edit does so with other columns; a
              discard deletes it.
            </p>
          </RunStrip>
        )}
        <Shown part={letters}>
          {({ count, list }) =>
            count === 0 ? (
              <p class="hint">None.</p>
            ) : (
              <>
                {count > 1 && (
                  <p class="hint">
                    This id has {plural(count, 'dead letter')}: a retry takes the first one, a discard deletes all of
                    them.
                    {count > list.length && ` The first ${list.length} are shown.`}
                  </p>
                )}
                {list.map((letter, n) => (
                  <Letter
                    key={`${n} ${letter.failure.failedAt}`}
                    id={id}
                    letter={letter}
                    isEditable={editable.length === 1 && editable[0] === letter}
                  />
                ))}
              </>
            )
          }
        </Shown>
      </section>
      <section>
        <h3>Row</h3>
        <Shown part={row}>
          {(value) =>
            value === null ? <p class="hint">The database has none.</p> : <Json of="the row" text={pretty(value)} />
          }
        </Shown>
      </section>
    </>
  )
}

function Shown<T>({ part, children }: { part: Part<T>; children: (value: T) => preact.ComponentChildren }) {
  if (part === undefined) return <p class="hint">Looking…</p>
  if ('problem' in part)
    return (
      <p class="bad" role="alert">
        {part.problem}
      </p>
    )
  return <>{children(part.value)}</>
}

const states = {
  QUEUED: 'It waits in the queue for a worker.',
  SAVED: 'It is saved: its row is in the database.',
  FAILED: 'It failed, and is a dead letter.',
}

function Receipt({ receipt }: { receipt: FoundReceipt }) {
  if (receipt === null) return <p class="hint">None: neither the queue nor the database knows the id.</p>
  const { status, model, acceptedAt, conflicts } = receipt
  return (
    <>
      <p data-status={status}>
        <strong class={`receipt-status ${status.toLowerCase()}`}>{status}</strong> {states[status]}
      </p>
      <p class="hint">
        {model}, accepted <Moment at={acceptedAt} />.
        {conflicts > 0 &&
          ` ${plural(conflicts, 'later save')} with this id and other values became ${conflicts === 1 ? 'a dead letter' : 'dead letters'}.`}
      </p>
    </>
  )
}
