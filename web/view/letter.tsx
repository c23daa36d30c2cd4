/** One dead letter, whole: why it failed, and its input as the server sent it. */
import { useState } from 'preact/hooks'
import type { FoundLetter } from '../find.ts'
import { plural } from '../format.ts'
import { isBusy, propose, run } from '../run.ts'
import { useStore } from '../store.ts'
import { Copy } from './copy.tsx'
import { Edit } from './edit.tsx'

const whole = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'long', hourCycle: 'h23' })

export const Moment = ({ at }: { at: string }) => (
  <time dateTime={at} title={at}>
    {whole.format(new Date(at))}
  </time>
)

/** Numbers stay what the server sent: JSON.stringify writes them as the server's did. */
export const pretty = (value: unknown): string => JSON.stringify(value, null, 2)

export function Letter({ id, letter, isEditable }: { id: string; letter: FoundLetter; isEditable: boolean }) {
  useStore(run)
  const [isEdited, edit] = useState(false)
  const [draft, change] = useState<string>()
  const { model, input, acceptedAt, failure } = letter
  const json = pretty(input)
  const start = (kind: 'retry' | 'discard') => void propose(kind, { ids: [id] }, 'find')
  return (
    <article class="letter" aria-label={`Dead letter with the code ${failure.code}`}>
      <p class="row">
        <span class="code">{failure.code}</span>
        <span>{model ?? 'No model: the message cannot be decoded'}</span>
        <span class="hint">{plural(failure.attempts, 'attempt')}</span>
      </p>
      <p class="reason" dir="auto">
        {failure.message}
      </p>
      <dl class="facts">
        <div>
          <dt>Failed</dt>
          <dd>
            <Moment at={failure.failedAt} />
          </dd>
        </div>
        {acceptedAt && (
          <div>
            <dt>Accepted</dt>
            <dd>
              <Moment at={acceptedAt} />
            </dd>
          </div>
        )}
      </dl>
      {input === null ? (
        <p class="hint">Its message cannot be read, so that there is no input to show.</p>
      ) : (
        <Json of="the input" text={json} />
      )}
      <div class="buttons">
        <button type="button" aria-disabled={isBusy()} onClick={() => start('retry')}>
          Retry…
        </button>
        {isEditable && input !== null && (
          <button type="button" aria-disabled={isBusy()} onClick={() => edit(true)}>
            Edit and retry…
          </button>
        )}
        <button type="button" class="danger" aria-disabled={isBusy()} onClick={() => start('discard')}>
          Discard…
        </button>
      </div>
      {isEdited && <Edit id={id} text={draft ?? json} change={change} close={() => edit(false)} />}
    </article>
  )
}

export const Json = ({ of, text }: { of: string; text: string }) => (
  <div class="json">
    {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard. */}
    <section class="text whole" dir="ltr" tabIndex={0} aria-label={of}>
      <pre>{text}</pre>
    </section>
    <Copy text={text} of={`of ${of}`} label="Copy JSON" />
  </div>
)
