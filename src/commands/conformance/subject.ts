/** The model that the suite writes to, from GET /models.json alone: its documents, and inputs of which no two are the same. */
import { randomUUID } from 'node:crypto'
import { ask, type Json, request, type Server } from './server.ts'

interface Column {
  name: string
  type: string
  enumName?: string
  values?: string[]
  nullable: boolean
  default?: unknown
  fromToken?: boolean
  min?: number
  max?: number
  maxLength?: number
  pattern?: string
  sample?: unknown
}

export interface Model {
  name: string
  names: { one: string; many: string; save: string; saveMany: string; saved: string; flat: boolean }
  columns: Column[]
  by: string[][]
}

export type Input = Record<string, unknown>

export interface Subject {
  server: Server
  model: Model
  /** In the rows that this run writes, where a column takes a text. */
  mark: string
  /** No two inputs are the same, except for the given columns. */
  input(given?: Input): Input
  /** Columns that lists can be narrowed to, and values of them that no row has; undefined where the suite may choose no such values. */
  narrowed: { columns: readonly string[]; key(): Input } | undefined
  documents: Documents
}

interface Documents {
  saveMany: string
  /** With `waitMs`. */
  saveAndWait(input: Input): { query: string; variables: Input }
  one: string
  page(by?: readonly string[]): string
  saved(by?: readonly string[]): string
}

export async function modelsOf(server: Server): Promise<Model[]> {
  const { status, body } = await request(server, '/models.json')
  if (status !== 200 || !Array.isArray(body?.models))
    throw new Error(`GET /models.json: ${status}; expected 200 and JSON with "models". ${JSON.stringify(body ?? '')}`)
  return body.models
}

/** The first model, or the named one, that can be written with samples and the given values. */
export function subjectOf(
  server: Server,
  models: readonly Model[],
  { name, given = {} }: { name?: string | undefined; given?: Input },
): Subject {
  const isWritable = ({ columns }: Model) =>
    columns.every((one) => !isSent(one) || one.sample !== undefined || given[one.name] !== undefined)
  const named = name === undefined ? models : models.filter((model) => model.name === name)
  // One that can be narrowed shows more.
  const usable = named.filter(isWritable).sort((a, b) => Number(b.by.length > 0) - Number(a.by.length > 0))
  const [model] = usable
  if (!model) {
    const names = models.map((model) => model.name).join(', ')
    throw new Error(
      named.length === 0
        ? `There is no model ${name}; the server has ${names}.`
        : `A required column refers to another model, or has rules that no sample fits; give its value: --model NAME --input '{"COLUMN":"VALUE"}'. The server has ${names}.`,
    )
  }
  const mark = `conformance-${randomUUID().slice(0, 8)}`
  let count = 0
  const input = (fixed: Input = {}): Input => {
    count += 1
    const values = model.columns.filter((one) => isSent(one) || variantOf(one, mark, 1) !== undefined)
    const made = values.map((one) => [one.name, variantOf(one, mark, count) ?? one.sample])
    return { ...Object.fromEntries(made), ...given, ...fixed }
  }
  const narrowing = model.by.find((columns) =>
    columns.every((name) => {
      const column = model.columns.find((one) => one.name === name)!
      return given[name] === undefined && variantOf(column, mark, 1) !== undefined
    }),
  )
  const key = () => {
    count += 1
    return Object.fromEntries(
      narrowing!.map((name) => [name, variantOf(model.columns.find((one) => one.name === name)!, mark, count)]),
    )
  }
  return {
    server,
    model,
    mark,
    input,
    narrowed: narrowing && { columns: narrowing, key },
    documents: documentsOf(model),
  }
}

/** A client has to send it. */
const isSent = ({ nullable, default: value, fromToken }: Column) => !nullable && value === undefined && !fromToken

/** A value that differs for each `n`; undefined where the column has none that is certain to be valid. */
function variantOf(column: Column, mark: string, n: number): unknown {
  const { type, fromToken, pattern, sample, maxLength = 100, min = 0, max = 1e6 } = column
  if (fromToken || pattern !== undefined || sample === undefined) return undefined
  if (type === 'Int') return max - min >= 1e6 ? min + n : undefined
  if (type !== 'String') return undefined
  const text = `${n} ${mark}`
  // A sample that is cut has the length of what fits.
  const fits = String(sample).length < 'something'.length ? String(sample).length : maxLength
  return fits >= text.length ? text : undefined
}

function documentsOf({ name, names, columns }: Model): Documents {
  const { one, many, save, saveMany, saved, flat } = names
  const row = ['id', ...columns.map((column) => column.name), 'createdAt', 'savedAt'].join(' ')
  const typeOf = (key: string) => {
    if (key === 'id') return 'ID'
    const { type = 'String', enumName } = columns.find((column) => column.name === key) ?? {}
    return type === 'Enum' ? enumName : type === 'Json' ? 'JSON' : type
  }
  const declared = (keys: readonly string[], mark = '') =>
    keys.map((key) => `$${key}: ${typeOf(key)}${mark}, `).join('')
  const passed = (keys: readonly string[]) => keys.map((key) => `${key}: $${key}, `).join('')
  const receipt = `{ saveId model status duplicate conflicts failure { code message } row: ${one} { ${row} } }`
  return {
    saveMany: `mutation ($inputs: [${name}Input!]!) { saves: ${saveMany}(inputs: $inputs) { saveId model status duplicate } }`,
    saveAndWait(input) {
      const keys = Object.keys(input)
      const query = flat
        ? `mutation (${declared(keys, '!')}$waitMs: Int) { save: ${save}(${passed(keys)}waitMs: $waitMs) ${receipt} }`
        : `mutation ($input: ${name}Input!, $waitMs: Int) { save: ${save}(input: $input, waitMs: $waitMs) ${receipt} }`
      return { query, variables: { ...(flat ? input : { input }), waitMs: 20_000 } }
    },
    one: `query ($id: ID!) { row: ${one}(id: $id) { ${row} } }`,
    page: (by = []) =>
      `query (${declared(by)}$first: Int) { page: ${many}(${passed(by)}first: $first) { savedCursor edges { node { ${row} } } } }`,
    saved: (by = []) =>
      `subscription (${declared(by)}$after: String) { saved: ${saved}(${passed(by)}after: $after) { cursor row: ${one} { ${row} } } }`,
  }
}

/** Acknowledged receipts, in the order of the inputs. */
export async function save({ server, documents }: Subject, ...inputs: Input[]): Promise<Json[]> {
  return (await ask(server, documents.saveMany, { inputs })).saves
}

/** Returns the ids. */
export async function saveRows(subject: Subject, count: number, given: Input = {}): Promise<string[]> {
  const ids = Array.from({ length: count }, () => randomUUID())
  await save(subject, ...ids.map((id) => ({ ...subject.input(given), id })))
  return ids
}
