/**
 * The models of the server, as GET /models.json lists them, and the documents that are made of them. They are read when they are first needed,
 * and again when the server refuses a document or lacks a model: it was upgraded, or downgraded.
 */
import { SpillwayError } from './error.ts'
import type { Model, Transport } from './transport.ts'

export interface AnyRow extends Readonly<Record<string, unknown>> {
  id: string
  createdAt: string
  savedAt: string
}

/** Of one model; those of rows narrowed to values of some columns. */
export interface Documents {
  saveMany: string
  page: string
  saved: string
  /** The row in a receipt, for `receiptsOf`. */
  rowOfReceipt: string
}

export type Models = ReturnType<typeof makeModels>

export function makeModels({ models }: Transport) {
  let reading: Promise<Model[]> | undefined
  const forget = () => {
    reading = undefined
  }
  const all = () => {
    reading ??= models().catch((error) => {
      forget()
      throw error
    })
    return reading
  }

  return {
    all,
    forget,
    /** Throws GRAPHQL_VALIDATION_FAILED where the server has no such model, or had none when they were read. */
    async of(key: string, by: readonly string[] = []): Promise<Documents> {
      const model = (await all()).find(({ name }) => name[0]!.toLowerCase() + name.slice(1) === key)
      if (model) return documentsOf(model, by)
      throw new SpillwayError('GRAPHQL_VALIDATION_FAILED', `The server has no model ${key}.`)
    },
  }
}

function documentsOf({ name, names, columns }: Model, by: readonly string[]): Documents {
  const { one, many, saveMany, saved } = names
  const row = `{id ${columns.map((column) => column.name).join(' ')} createdAt savedAt}`
  const typeOf = (key: string) => {
    const { type, enumName } = columns.find((column) => column.name === key) ?? {}
    return enumName ?? (type === 'Json' ? 'JSON' : type)
  }
  // A value that is missing must not mean all rows.
  const declared = by.map((key) => `$${key}:${typeOf(key)}! `).join('')
  const passed = by.map((key) => `${key}:$${key} `).join('')
  return {
    saveMany: `mutation Save($inputs:[${name}Input!]!){saves:${saveMany}(inputs:$inputs){status duplicate failure{code message}}}`,
    page: `query Page(${declared}$first:Int$after:String){page:${many}(${passed}first:$first after:$after){savedCursor edges{cursor node${row}}pageInfo{hasNextPage}}}`,
    saved: `subscription Saved(${declared}$after:String){saved:${saved}(${passed}after:$after){row:${one}${row}}}`,
    rowOfReceipt: `...on ${name}Receipt{row${name}:${one}${row}}`,
  }
}

/** `rows`: the `rowOfReceipt` of each model. */
export const receiptsOf = (rows: Iterable<string>): string =>
  `subscription Receipts($ids:[ID!]!){receipts(ids:$ids){saveId status failure{code message}${[...rows].join('')}}}`
