/**
 * The models of this Spillway, as `/models.json` lists them, and the chosen one, whose rows the feed shows and the form saves. The
 * operations of a model are made here, for no file of the console names one.
 */
import { access } from './access.ts'
import { client, textOf as messageOf, noting, problemOf } from './client.ts'
import type { Operation } from './operations.ts'
import { pause } from './pause.ts'
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
  names: { one: string; many: string; saveMany: string; saved: string }
  columns: Column[]
  /** The sets of columns that its rows can be narrowed by. */
  by: string[][]
}

/** Columns by name, in the form of JSON. */
export type Values = Record<string, unknown>

export interface Row extends Values {
  id: string
  createdAt: string
  savedAt: string
}

/** What the feed keeps of a row, so that ten thousand of them are a few megabytes: all of a short one, or the beginning of its line. */
export interface Excerpt extends Pick<Row, 'id' | 'createdAt' | 'savedAt'> {
  line: string
  row: Row | undefined
}

const excerptLength = 300

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
      const list = (await noting('read', client.$models())) as unknown as Model[]
      models.set({ list, chosen: undefined, problem: '' })
      choose(modelNamed(sessionStorage.getItem(key) ?? '')?.name ?? list[0]!.name)
    } catch (error) {
      const problem = messageOf(problemOf(error))
      // A refusal of the token is shown beside the token.
      models.patch({ problem: access.get().may.read ? problem : '' })
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

export interface Operations {
  row: Operation<{ row: Row | null }, { id: string }>
  saveMany: Operation<{ saves: { status: string }[] | null }, { inputs: Values[] }>
}

/** Those that the client does not make. */
export const operationsOf = ({ name, names, columns }: Model): Operations => ({
  row: `query Row($id:ID!){row:${names.one}(id:$id){id ${columns.map((column) => column.name).join(' ')} createdAt savedAt}}` as Operations['row'],
  saveMany:
    `mutation SaveMany($inputs:[${name}Input!]!){saves:${names.saveMany}(inputs:$inputs){status}}` as Operations['saveMany'],
})

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

/** The beginning of a text. A part of a long text would keep all of it in memory: this is a text of its own. */
export const excerptOf = (text: string, length: number): string =>
  text.length <= length ? text : JSON.parse(JSON.stringify(text.slice(0, length)))

export function excerptOfRow(model: Model, row: Row): Excerpt {
  const { id, createdAt, savedAt } = row
  const line = lineOf(model, row)
  const isShort = line.length <= excerptLength
  return { id, createdAt, savedAt, line: excerptOf(line, excerptLength), row: isShort ? row : undefined }
}
