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

export interface Documents {
  saveMany: string
  /** Narrowed to values of these columns. */
  page(by: readonly string[]): string
  saved(by: readonly string[]): string
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
      // An answer for a path that is not there.
      if (error.code !== 'BAD_USER_INPUT') throw error
      throw new SpillwayError('NOT_SPILLWAY', 'The server has no /models.json: it is too old.', { retryAfterMs: 5_000 })
    })
    return reading
  }
  const find = async (key: string) => (await all()).find(({ name }) => keyOf(name) === key)

  return {
    all,
    forget,
    /** Throws GRAPHQL_VALIDATION_FAILED where the server has no such model. */
    async of(key: string): Promise<Documents> {
      const known = await find(key)
      if (!known) forget()
      const model = known ?? (await find(key))
      if (model) return documentsOf(model)
      const names = (await all()).map(({ name }) => keyOf(name))
      throw new SpillwayError('GRAPHQL_VALIDATION_FAILED', `The server has no model ${key}; it has ${names}.`)
    },
  }
}

/** As it is written behind `client.` */
const keyOf = (name: string) => name[0]!.toLowerCase() + name.slice(1)

function documentsOf({ name, names, columns }: Model): Documents {
  const { one, many, saveMany, saved } = names
  const row = ['id', ...columns.map((column) => column.name), 'createdAt', 'savedAt'].join(' ')
  const typeOf = (key: string) => {
    const { type = 'String', enumName } = columns.find((column) => column.name === key) ?? {}
    return type === 'Enum' ? enumName : type === 'Json' ? 'JSON' : type
  }
  /** Declared with its type, and passed on. */
  const narrowed = (by: readonly string[]) => [
    by.map((key) => `$${key}:${typeOf(key)} `).join(''),
    by.map((key) => `${key}:$${key} `).join(''),
  ]
  return {
    saveMany: `mutation Save($inputs:[${name}Input!]!){saves:${saveMany}(inputs:$inputs){status duplicate failure{code message}}}`,
    page(by) {
      const [declared, passed] = narrowed(by)
      return `query Page(${declared}$first:Int$after:String){page:${many}(${passed}first:$first after:$after){savedCursor edges{cursor node{${row}}}pageInfo{hasNextPage}}}`
    },
    saved(by) {
      const [declared, passed] = narrowed(by)
      return `subscription Saved(${declared}$after:String){saved:${saved}(${passed}after:$after){row:${one}{${row}}}}`
    },
    rowOfReceipt: `...on ${name}Receipt{row${name}:${one}{${row}}}`,
  }
}

/** `rows`: the `rowOfReceipt` of each model. */
export const receiptsOf = (rows: Iterable<string>): string =>
  `subscription Receipts($ids:[ID!]!){receipts(ids:$ids){saveId status failure{code message}${[...rows].join('')}}}`
