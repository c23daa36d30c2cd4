/**
 * A field of the form: a control that fits the column's type, and beside it, for a column that needs no value, what it has in the place of
 * one: null, its default, an empty text. Both are the controls' own until the form is sent.
 */
import type { TargetedKeyboardEvent } from 'preact'
import { choicesOf, hintOf, isRequired, mayBeEmpty, type Typed } from '../form.ts'
import type { Column } from '../models.ts'

type Control = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement

const idOf = (column: Column) => `column-${column.name}`
const choiceIdOf = (column: Column) => `choice-${column.name}`

export const fieldOf = (form: HTMLFormElement, column: Column): Control =>
  form.elements.namedItem(idOf(column)) as Control

const choiceOf = (form: HTMLFormElement, column: Column) =>
  form.elements.namedItem(choiceIdOf(column)) as HTMLSelectElement | null

/** A value that no choice has. */
const typed = 'value'

/** Undefined: nothing was typed or chosen. */
export function typedIn(form: HTMLFormElement, column: Column): Typed[string] | undefined {
  const control = fieldOf(form, column)
  if (isCheckbox(column)) return String((control as HTMLInputElement).checked)
  // Of a date that is not complete, a browser tells no text, and no input.
  if (control.validity.badInput) return '…'
  const choice = isList(column) ? control.value : choiceOf(form, column)?.value
  if (choice === 'null') return null
  if (choice === 'default:' || choice === 'default') return undefined
  if (choice === 'empty') return ''
  return control.value === '' && choice !== typed ? undefined : control.value
}

/** Sets every field: to its text, or to what it begins with. */
export function fill(form: HTMLFormElement, columns: readonly Column[], texts: Typed): void {
  for (const column of columns) {
    const control = fieldOf(form, column)
    const text = texts[column.name]
    if (isCheckbox(column)) {
      ;(control as HTMLInputElement).checked = text === undefined ? column.default === true : text === 'true'
    } else if (isList(column)) {
      control.value = text === null ? 'null' : (text ?? '')
      if (text === undefined) (control as HTMLSelectElement).selectedIndex = 0
    } else {
      control.value = text ?? ''
      const choice = choiceOf(form, column)
      if (!choice) continue
      choice.value = text === null ? 'null' : text === '' ? 'empty' : typed
      if (text === undefined) choice.selectedIndex = 0
    }
  }
}

/** A checkbox has no third state for null. */
const isCheckbox = ({ type, nullable }: Column) => type === 'Boolean' && !nullable
/** Its choices are among its values. */
const isList = (column: Column) => (column.type === 'Enum' || column.type === 'Boolean') && !isCheckbox(column)

interface FieldProps {
  column: Column
  /** It is the only one of the form: its label is heard, and not seen. */
  only: boolean
  problem: string | undefined
  /** With nothing typed into it, it is an empty text. */
  isEmpty: boolean
  /** Sends the form. */
  save: () => void
  /** Sends the form with an empty text in this field. */
  saveEmpty: () => void
}

export function Field({ column, only, problem, isEmpty, save, saveEmpty }: FieldProps) {
  const { name, description } = column
  const id = idOf(column)
  return (
    <div class={isCheckbox(column) ? 'field checkbox' : 'field'}>
      <div class="row label">
        <label for={id} class={only ? 'unseen' : undefined} title={description}>
          {name} {!only && <small id={`${id}-hint`}>{hintOf(column)}</small>}
        </label>
        <ChoiceOf column={column} />
      </div>
      <ControlOf
        column={column}
        save={save}
        rest={{
          id,
          placeholder: isEmpty ? 'an empty text' : only ? 'Something to save' : '',
          'aria-invalid': problem !== undefined,
          'aria-describedby': problem === undefined ? 'save-hint' : `${id}-problem save-hint`,
        }}
      />
      {problem && (
        <p class="hint bad">
          <span id={`${id}-problem`}>{problem}</span>
          {isRequired(column) && mayBeEmpty(column) && (
            <button type="button" class="link" onClick={saveEmpty}>
              Save an empty text
            </button>
          )}
        </p>
      )}
    </div>
  )
}

/** It follows what is typed. */
function ChoiceOf({ column }: { column: Column }) {
  const choices = choicesOf(column)
  if (choices.length === 0 || isCheckbox(column) || isList(column)) return null
  return (
    <select
      id={choiceIdOf(column)}
      class="choice"
      aria-label={`What to save as ${column.name}`}
      onChange={({ currentTarget: { form, value } }) => {
        const control = fieldOf(form!, column)
        if (value === typed) control.focus()
        else control.value = ''
      }}
    >
      {choices.map(({ key, label }) => (
        <option key={key} value={key}>
          {label}
        </option>
      ))}
      <option value={typed}>value</option>
    </select>
  )
}

/** Nothing typed is what the field begins with; an empty text is chosen. */
function follow(column: Column, { form, value }: Control): void {
  const choice = choiceOf(form!, column)
  if (!choice) return
  if (value === '') choice.selectedIndex = 0
  else choice.value = typed
}

interface Rest {
  id: string
  placeholder: string
  'aria-invalid': boolean
  'aria-describedby': string
}

function ControlOf({ column, save, rest }: { column: Column; save: () => void; rest: Rest }) {
  const { type, values, min, maxLength } = column
  const { placeholder: _, ...bare } = rest
  if (isCheckbox(column)) return <input type="checkbox" {...bare} />
  if (isList(column)) {
    return (
      <select {...bare}>
        {isRequired(column) && <option value="">choose …</option>}
        {choicesOf(column).map(({ key, label }) => (
          // The name of a value has no colon, and is not null.
          <option key={key} value={key === 'null' ? key : `${key}:`}>
            {label}
          </option>
        ))}
        {(values ?? ['true', 'false']).map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
    )
  }
  const onInput = ({ currentTarget }: { currentTarget: Control }) => follow(column, currentTarget)
  if (type === 'DateTime') return <input type="datetime-local" step="0.001" onInput={onInput} {...bare} />
  // A text may have several lines, of which <input> would make one.
  const isText = type === 'String' || type === 'Json' || (type === 'Bytes' && (maxLength ?? 201) > 200)
  if (!isText) {
    // Not type="number": it takes a scroll of the wheel for a change, and drops what is no number. A keypad may lack the minus sign.
    const mode = Number(min) >= 0 ? 'decimal' : 'text'
    return (
      <input
        type="text"
        inputMode={mode}
        autocomplete="off"
        spellcheck={false}
        dir="auto"
        onInput={onInput}
        {...rest}
      />
    )
  }
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLTextAreaElement>) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    save()
  }
  const isShort = (maxLength ?? 201) <= 200
  return (
    <textarea
      rows={isShort ? 1 : 2}
      class={isShort ? 'short' : undefined}
      autocomplete="off"
      dir="auto"
      spellcheck={type === 'String' && !isShort}
      onInput={onInput}
      onKeyDown={onKeyDown}
      {...rest}
    />
  )
}
