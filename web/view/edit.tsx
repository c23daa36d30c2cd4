/** The editor of a dead letter's input. */
import { useRef, useState } from 'preact/hooks'
import { edit, readInput } from '../edit.ts'
import { Dialog } from './dialog.tsx'

export interface EditProps {
  id: string
  text: string
  /** It is kept while the editor is closed. */
  change: (text: string) => void
  close: () => void
}

export function Edit({ id, text, change, close }: EditProps) {
  const [problem, show] = useState('')
  const [isSending, send] = useState(false)
  const field = useRef<HTMLTextAreaElement>(null)
  const submit = async () => {
    if (isSending) return
    const input = readInput(text)
    if ('problem' in input) return fail(input.problem)
    send(true)
    show('')
    const refused = await edit(id, input.value)
    send(false)
    if (refused === undefined) close()
    else fail(refused)
  }
  const fail = (problem: string) => {
    show(problem)
    const { current } = field
    current?.focus()
    // The server names the column that is wrong, this browser the position.
    const column = /^(\w+) of /.exec(problem)?.[1]
    const at = column ? text.indexOf(`"${column}"`) : Number(/position (\d+)/.exec(problem)?.[1] ?? -1)
    if (at >= 0) current?.setSelectionRange(at, at + (column ? column.length + 2 : 1))
  }
  return (
    <Dialog title="Edit and retry" close={close}>
      <p class="hint">
        All columns of the save, as JSON. It goes back into the queue under its id, {id}. A client that sends the old
        columns again gets ID_CONFLICT: tell the sender.
      </p>
      <textarea
        class="input"
        ref={field}
        aria-label="Input"
        aria-invalid={problem !== ''}
        aria-describedby="edit-problem"
        spellcheck={false}
        autocomplete="off"
        value={text}
        onInput={({ currentTarget }) => change(currentTarget.value)}
      />
      <p id="edit-problem" class="bad" role="alert">
        {problem}
      </p>
      <div class="buttons end">
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button type="button" class="primary" aria-disabled={isSending} onClick={() => void submit()}>
          {isSending ? 'Sending…' : 'Save and retry'}
        </button>
      </div>
    </Dialog>
  )
}
