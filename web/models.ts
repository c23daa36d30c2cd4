/**
 * The models of this Spillway, as `/models.json` lists them, and the chosen one, whose rows the feed shows and the form saves. The
 * operations of a model are made here, for no file of the console names one.
 */
import { access } from './access.ts'
import { get, pause, Refusal } from './api.ts'
import type { Operation } from './operations.ts'
import { makeStore } from './store.ts'

export interface Column {
  name: string
  type: 'String' | 'Int' | 'BigInt' | 'Float' | 'Decimal' | 'Boolean' | 'DateTime' | 'Json' | 'Bytes' | 'Enum'
  enumName?: string
  /** Of an enum. */
  values?: string[]
  nullable: boolean
  default?: unknown
  /** The server takes it from the token. */
  fromToken?: true
  description?: string
  min?: number | string
  max?: number | string
  maxLength?: number
  digits?: [before: number, after: number]
  pattern?: string
  /** A valid value; none where the server has no way to make one. */
  sample?: unknown
}

export interface Model {
  name: string
  names: { one: string; many: string; save: string; saveMany: string; saved: string; flat: boolean }
  columns: Column[]
}

/** Columns by name, in the form of JSON. */
export type Values = Record<string, unknown>

export interface Row extends Values {
  id: string
  createdAt: string
  savedAt: string
}

const key = 'spillway.model'

export const models = makeStore({
  list: [] as Model[],
  chosen: undefined as Model | undefined,
  problem: '',
})

const watchers = new Set<() => void>()
let wake = new AbortController()

export const chosen = (): Model | undefined => models.get().chosen

export const modelNamed = (name: string): Model | undefined => models.get().list.find((model) => model.name === name)

/** Calls back whenever another model is chosen, the first one included. */
export function onChosen(watcher: () => void): void {
  watchers.add(watcher)
}

export function choose(name: string): void {
  const model = modelNamed(name)
  if (!model || model === chosen()) return
  sessionStorage.setItem(key, name)
  models.patch({ chosen: model })
  for (const watcher of watchers) watcher()
}

/** Reads the models, once: another token changes nothing about them. */
export async function loadModels(): Promise<void> {
  for (let tries = 1; models.get().list.length === 0; tries++) {
    wake = new AbortController()
    try {
      const { models: list } = await get<{ models: Model[] }>('/models.json', 'read')
      models.set({ list, chosen: undefined, problem: '' })
      choose(modelNamed(sessionStorage.getItem(key) ?? '')?.name ?? list[0]!.name)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      // A refusal of the token is shown beside the token.
      models.patch({ problem: access.get().may.read ? error.message : '' })
      await pause(Math.min(5_000, 500 * 2 ** tries), wake.signal)
    }
  }
}

/** Asks at once instead of at the next turn. */
export function retryModels(): void {
  wake.abort()
}

/** The columns that a client sends. */
export const sentColumns = ({ columns }: Model): Column[] => columns.filter(({ fromToken }) => !fromToken)

interface Failure {
  code: string
  message: string
}

export interface Operations {
  page: Operation<
    {
      page: {
        savedCursor: string
        edges: { cursor: string; node: Row }[]
        pageInfo: { hasNextPage: boolean }
      } | null
    },
    { first: number; after?: string }
  >
  saved: Operation<{ saved: { cursor: string; row: Row } }, { after: string | null }>
  save: Operation<{ save: { status: 'QUEUED' | 'SAVED' | 'FAILED'; failure: Failure | null } | null }, Values>
  /** Tells of each row only when it was written. */
  written: Operation<{ saved: { row: Pick<Row, 'savedAt'> } }, Record<string, never>>
  saveMany: Operation<{ saves: { status: string }[] | null }, { inputs: Values[] }>
}

const known = new WeakMap<Model, Operations>()

export function operationsOf(model: Model): Operations {
  const made = known.get(model) ?? makeOperations(model)
  known.set(model, made)
  return made
}

function makeOperations(model: Model): Operations {
  const { name, names, columns } = model
  const row = ['id', ...columns.map((column) => column.name), 'createdAt', 'savedAt'].join(' ')
  const inputs = names.flat ? sentColumns(model).map((column) => [column.name, typeOf(column)] as const) : undefined
  const declared = inputs ? inputs.map(([name, type]) => `$${name}:${type}`).join(' ') : `$input:${name}Input!`
  const passed = inputs ? inputs.map(([name]) => `${name}:$${name}`).join(' ') : 'input:$input'
  return {
    page: `query Page($first:Int$after:String){page:${names.many}(first:$first after:$after){savedCursor edges{cursor node{${row}}}pageInfo{hasNextPage}}}`,
    saved: `subscription Saved($after:String){saved:${names.saved}(after:$after){cursor row:${names.one}{${row}}}}`,
    written: `subscription Written{saved:${names.saved}{row:${names.one}{savedAt}}}`,
    save: `mutation Save($id:ID ${declared}){save:${names.save}(id:$id ${passed}){status failure{code message}}}`,
    saveMany: `mutation SaveMany($inputs:[${name}Input!]!){saves:${names.saveMany}(inputs:$inputs){status}}`,
  } as Operations
}

/** What `Operations.save` takes. */
export const saveVariables = ({ names }: Model, id: string, values: Values): Values =>
  names.flat ? { ...values, id } : { input: values, id }

/** A column with a default may be left out. */
function typeOf({ type, enumName, nullable, default: value }: Column): string {
  const named = type === 'Enum' ? enumName : type === 'Json' ? 'JSON' : type
  return `${named}${nullable || value !== undefined ? '' : '!'}`
}

/** A row or an input in one line: the value of the only column, or each value behind its column's name. */
export function lineOf({ columns }: Model, values: Values): string {
  if (columns.length === 1) return textOf(values[columns[0]!.name])
  return columns
    .filter(({ name }) => values[name] !== null && values[name] !== undefined)
    .map(({ name }) => `${name}: ${textOf(values[name])}`)
    .join(' · ')
}

export const textOf = (value: unknown): string =>
  typeof value === 'string' ? value : value === null || value === undefined ? '' : JSON.stringify(value)
