/** The plain HTTP routes, for curl and webhooks: the same use cases as GraphQL, the same errors. */
import type { ServerResponse } from 'node:http'
import { formatPrismaCursor, parsePrismaCursor } from '@pothos/plugin-prisma'
import type { App } from '../app/app.ts'
import type { Receipt } from '../app/receipts.ts'
import { pageDefault } from '../app/rows.ts'
import type { SaveInput } from '../app/save.ts'
import { checkOnce } from '../graphql/params.ts'
import { HttpError, truncate } from '../http/errors.ts'
import { checkId, checkPage } from '../http/input.ts'
import { jsonType, sendJson, sendText } from '../http/respond.ts'
import { cursorMark, type Rendered, type Responses } from '../http/responses.ts'
import { badInput } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'
import { jsonOf, type Model, type Row } from '../model/model.ts'
import { cacheKeyOf, isVisible, type Narrowing, narrowingOf, visibleValue } from '../model/narrow.ts'
import { isRequired, sampleOf } from './samples.ts'

/** POST /comments: reads the body as JSON whatever its Content-Type, since `curl -d` sets another one. */
export async function postSave(
  app: App,
  saving: { model: Model; grant: Grant },
  response: ServerResponse,
  body: string,
): Promise<void> {
  const { id, status } = await app.saves.save(saving, parseSave(saving.model, body))
  sendJson(response, 202, { id, status })
}

function parseSave(model: Model, body: string): SaveInput {
  const wrong = (problem: string) => badInput(`${problem}; expected JSON such as ${JSON.stringify(exampleOf(model))}`)
  if (body.trim() === '') throw wrong('the body is empty')
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    throw wrong('the body is not JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('the body is not a JSON object')
  const { id, ...values } = value as Record<string, unknown>
  return { values, id }
}

/** The columns that an input must have. */
function exampleOf(model: Model): Record<string, unknown> {
  const required = model.columns.filter((column) => isRequired(model, column))
  return Object.fromEntries(required.map((column) => [column.name, sampleOf(model, column) ?? '…']))
}

interface List {
  model: Model
  grant: Grant
  /** Of the URL, without its question mark. */
  query: string
}

/** GET /comments?postId=…: a page of rows, newest first. `saved_cursor` is null only until this process has reached the events log once. */
export async function getList(app: App, responses: Responses, response: ServerResponse, list: List): Promise<void> {
  const { model, grant, query } = list
  const visible = visibleValue(model, grant)
  const key = visible === undefined ? query : `${query}\n${String(visible.value)}`
  let asked: Asked | undefined
  const ask = () => {
    asked ??= askedOf(list)
    return asked
  }
  const page = await responses.get(
    key,
    () => [cacheKeyOf(model, ask().where)],
    () => renderList(app, model, ask()),
    app.savedCursor.now ?? null,
  )
  sendText(response, 200, jsonType, page!)
}

interface Asked {
  first: number
  after: string | null
  where: Narrowing
}

function askedOf({ model, grant, query }: List): Asked {
  const parameters = new URLSearchParams(query)
  const narrowing = [...new Set(model.by.flat())]
  for (const name of parameters.keys()) {
    if (name === 'first' || name === 'after' || narrowing.includes(name)) continue
    const names = ['first', 'after', ...narrowing]
    throw badInput(
      `there is no parameter ${JSON.stringify(truncate(name, 50))}; there are ${names.slice(0, -1).join(', ')} and ${names.at(-1)}`,
    )
  }
  checkOnce(parameters)
  const text = parameters.get('first')
  if (text !== null && !/^-?\d{1,9}$/.test(text)) throw badInput('first must be a whole number')
  const first = text === null ? pageDefault : Number(text)
  const after = parameters.get('after')
  checkPage({ first, after })
  const args = Object.fromEntries(
    narrowing.flatMap((name) => {
      const value = parameters.get(name)
      return value === null ? [] : [[name, parameterOf(model, name, value)]]
    }),
  )
  return { first, after, where: narrowingOf(model, args, grant) }
}

/** The input form of a parameter's text; a text that is none is refused where the input is parsed. */
function parameterOf({ columns }: Model, name: string, text: string): unknown {
  const type = columns.find((column) => column.name === name)?.type
  if (type === 'Int' && /^-?\d{1,15}$/.test(text)) return Number(text)
  if (type === 'Boolean' && (text === 'true' || text === 'false')) return text === 'true'
  return text
}

async function renderList(app: App, model: Model, { first, after, where }: Asked): Promise<Rendered> {
  let readAt = performance.now()
  const cursor = after === null ? {} : { cursor: cursorId(after) }
  const query = { take: first + 1, skip: after === null ? 0 : 1, where, ...cursor, primary: true }
  const rows = await app.rows.page(model, query, (at) => {
    readAt = Math.min(readAt, at)
  })
  const results = rows.slice(0, first).map((row) => resultOf(model, row))
  const next = rows.length > first && results.length > 0 ? formatPrismaCursor({ id: results.at(-1)!.id }, 'id') : null
  return { text: JSON.stringify({ results, next, saved_cursor: cursorMark }), readAt }
}

function resultOf(model: Model, row: Row) {
  return { id: row.id, ...jsonOf(model, row), created_at: row.createdAt.toISOString() }
}

function rowJson(model: Model, row: Row) {
  return { id: row.id, ...jsonOf(model, row), createdAt: row.createdAt, savedAt: row.savedAt }
}

/** The same cursors as GraphQL's. */
function cursorId(cursor: string): string {
  try {
    return String(parsePrismaCursor(cursor))
  } catch {
    throw badInput('after is not a cursor; use one that `next` gave')
  }
}

/** GET /receipts/:id */
export async function getReceipt(app: App, grant: Grant, response: ServerResponse, id: string): Promise<void> {
  const receipt = await app.receipts.find(checkId(id))
  if (!receipt) {
    throw new HttpError(404, `No save with the id ${checkId(id)} was ever accepted, or it is long gone.`)
  }
  sendJson(response, 200, await receiptJson(app, grant, receipt))
}

async function receiptJson(app: App, grant: Grant, receipt: Receipt) {
  const { id, model, status, duplicate, acceptedAt, conflicts, failure } = receipt
  const row = status === 'QUEUED' ? undefined : (receipt.row ?? (await app.rows.find(model, id)))
  const shown = row && isVisible(model, row, grant) ? rowJson(model, row) : null
  return {
    id,
    model: model.name,
    status,
    duplicate,
    acceptedAt,
    conflicts,
    [model.names.one]: shown,
    failure: failure ?? null,
  }
}
