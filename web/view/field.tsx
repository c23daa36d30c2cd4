/** A field of the form: a control that fits the column's type. Its text is the control's own until the form is sent. */
import type { TargetedKeyboardEvent } from 'preact'
import { hintOf, isRequired, type Texts, textOf } from '../form.ts'
import type { Column } from '../models.ts'

type Control = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement

const idOf = (column: Column) => `column-${column.name}`

export const fieldOf = (form: HTMLFormElement, column: Column): Control =>
  form.elements.namedItem(idOf(column)) as Control

export function textIn(form: HTMLFormElement, column: Column): string {
  const control = fieldOf(form, column)
  return isCheckbox(column) ? String((control as HTMLInputElement).checked) : control.value
}

/** Sets every field: to its text, or to what it begins with. */
export function fill(form: HTMLFormElement, columns: readonly Column[], texts: Texts): void {
  for (const column of columns) {
    const control = fieldOf(form, column)
    const text = texts[column.name] ?? ''
    if (!isCheckbox(column)) control.value = text
    else (control as HTMLInputElement).checked = text === '' ? column.default === true : text === 'true'
  }
}

/** A checkbox has no third state for null. */
const isCheckbox = ({ type, nullable }: Column) => type === 'Boolean' && !nullable

interface FieldProps {
  column: Column
  /** It is the only one of the form: its label is heard, and not seen. */
  only: boolean
  problem: string | undefined
  /** Sends the form. */
  save: () => void
}

export function Field({ column, only, problem, save }: FieldProps) {
  const { name, description } = column
  const id = idOf(column)
  return (
    <div class={isCheckbox(column) ? 'field checkbox' : 'field'}>
      <label for={id} class={only ? 'unseen' : undefined} title={description}>
        {name} {!only && <small id={`${id}-hint`}>{hintOf(column)}</small>}
      </label>
      <ControlOf
        column={column}
        save={save}
        rest={{
          id,
          placeholder: only ? 'Something to save' : '',
          'aria-invalid': problem !== undefined,
          'aria-describedby': problem === undefined ? 'save-hint' : `${id}-problem save-hint`,
        }}
      />
      {problem && (
        <p class="hint bad" id={`${id}-problem`}>
          {problem}
        </p>
      )}
    </div>
  )
}

interface Rest {
  id: string
  placeholder: string
  'aria-invalid': boolean
  'aria-describedby': string
}

function ControlOf({ column, save, rest }: { column: Column; save: () => void; rest: Rest }) {
  const { type, values, min, maxLength, default: value } = column
  const { placeholder: _, ...bare } = rest
  if (isCheckbox(column)) return <input type="checkbox" {...bare} />
  if (type === 'Enum' || type === 'Boolean') {
    const none = value !== undefined ? `default: ${textOf(column, value)}` : isRequired(column) ? 'choose …' : 'null'
    return (
      <select {...bare}>
        <option value="">{none}</option>
        {(values ?? ['true', 'false']).map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
    )
  }
  if (type === 'DateTime') return <input type="datetime-local" step="0.001" {...bare} />
  const isLong = ['String', 'Json', 'Bytes'].includes(type) && (maxLength ?? Number.POSITIVE_INFINITY) > 200
  if (!isLong) {
    // Not type="number": it takes a scroll of the wheel for a change, and drops what is no number. A keypad may lack the minus sign.
    const mode = type !== 'String' && Number(min) >= 0 ? 'decimal' : 'text'
    return <input type="text" inputMode={mode} autocomplete="off" spellcheck={false} dir="auto" {...rest} />
  }
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLTextAreaElement>) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    save()
  }
  return <textarea rows={2} dir="auto" spellcheck={type === 'String'} onKeyDown={onKeyDown} {...rest} />
}
