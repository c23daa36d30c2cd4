/** Which rows the feed shows: all, or those with values of the columns that the model can be narrowed by. */
import { useRef, useState } from 'preact/hooks'
import { feed, narrow } from '../feed.ts'
import { Problem, parse } from '../form.ts'
import { type Column, lineOf, type Model, type Values } from '../models.ts'
import { useStore } from '../store.ts'

export function Filter({ model }: { model: Model }) {
  const { filter } = useStore(feed)
  const form = useRef<HTMLFormElement>(null)
  const [by, choose] = useState<readonly string[]>([])
  const [problem, show] = useState('')
  const columns = by.map((name) => model.columns.find((column) => column.name === name)!)
  const use = () => {
    const values: Values = {}
    for (const column of columns) {
      const { value: text } = form.current!.elements.namedItem(`by-${column.name}`) as HTMLInputElement
      const value = text === '' && column.type !== 'String' ? new Problem('is missing') : parse(column, text)
      if (value instanceof Problem) return show(`${column.name} ${value.text}.`)
      values[column.name] = value
    }
    show('')
    narrow(values)
  }
  return (
    <form
      class="filter"
      ref={form}
      noValidate
      aria-label="Filter of the feed"
      onSubmit={(event) => {
        event.preventDefault()
        use()
      }}
    >
      <select
        aria-label="Narrow the feed by"
        value={by.join(' ')}
        onChange={({ currentTarget: { value } }) => {
          choose(model.by.find((one) => one.join(' ') === value) ?? [])
          show('')
          if (value === '') narrow(undefined)
        }}
      >
        <option value="">All rows</option>
        {model.by.map((one) => (
          <option key={one.join(' ')} value={one.join(' ')}>
            By {one.join(' and ')}
          </option>
        ))}
      </select>
      {columns.map((column) => (
        <Value key={column.name} column={column} />
      ))}
      {columns.length > 0 && <button type="submit">Show</button>}
      {problem && <span class="hint bad">{problem}</span>}
      {filter && !problem && (
        <span class="hint">Only rows with {lineOf({ ...model, columns: model.columns }, filter)}</span>
      )}
    </form>
  )
}

function Value({ column }: { column: Column }) {
  const { name, type, values = ['true', 'false'] } = column
  const id = `by-${name}`
  if (type === 'Enum' || type === 'Boolean') {
    return (
      <select id={id} aria-label={`Only with ${name}`}>
        {values.map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
    )
  }
  if (type === 'DateTime') return <input id={id} type="datetime-local" step="0.001" aria-label={`Only with ${name}`} />
  return (
    <input
      id={id}
      type="text"
      autocomplete="off"
      spellcheck={false}
      aria-label={`Only with ${name}`}
      placeholder={name}
    />
  )
}
