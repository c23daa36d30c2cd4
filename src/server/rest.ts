/** The plain HTTP routes, for curl and webhooks: the same use cases as GraphQL, the same errors. */
import type { ServerResponse } from 'node:http'
import { formatPrismaCursor, parsePrismaCursor } from '@pothos/plugin-prisma'
import type { App } from '../app/app.ts'
import { pageDefault } from '../app/contents.ts'
import type { Receipt } from '../app/receipts.ts'
import type { SaveInput } from '../app/save.ts'
import { checkOnce } from '../graphql/params.ts'
import { HttpError, truncate } from '../http/errors.ts'
import { checkId, checkPage } from '../http/input.ts'
import { jsonType, sendJson, sendText } from '../http/respond.ts'
import type { Rendered, Responses } from '../http/responses.ts'
import { badInput } from '../model/error.ts'

/** POST /save: reads the body as JSON whatever its Content-Type, since `curl -d` sets another one. */
export async function postSave(app: App, response: ServerResponse, body: string): Promise<void> {
  const { id, status } = await app.saves.save(parseSave(body))
  sendJson(response, 202, { id, status })
}

function parseSave(body: string): SaveInput {
  const expected = 'expected JSON such as {"content":"something"}'
  if (body.trim() === '') throw badInput(`the body is empty; ${expected}`)
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    throw badInput(`the body is not JSON; ${expected}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw badInput(`the body is not a JSON object; ${expected}`)
  if (!Object.hasOwn(value, 'content')) throw badInput(`content is missing; ${expected}`)
  const { content, id } = value as Record<string, unknown>
  return { content, id }
}

/** GET /: a page of contents, newest first. */
export async function getContents(
  app: App,
  responses: Responses,
  response: ServerResponse,
  query: string,
): Promise<void> {
  const page = await responses.get(query, () => contentsPage(app, query))
  sendText(response, 200, jsonType, page!)
}

async function contentsPage(app: App, query: string): Promise<Rendered> {
  const parameters = new URLSearchParams(query)
  for (const name of parameters.keys()) {
    if (name !== 'first' && name !== 'after')
      throw badInput(`there is no parameter ${JSON.stringify(truncate(name, 50))}; there are first and after`)
  }
  checkOnce(parameters)
  const text = parameters.get('first')
  if (text !== null && !/^-?\d{1,9}$/.test(text)) throw badInput('first must be a whole number')
  const first = text === null ? pageDefault : Number(text)
  const after = parameters.get('after')
  checkPage({ first, after })
  let readAt = performance.now()
  const rows = await app.contents.page(
    { take: first + 1, skip: after === null ? 0 : 1, ...(after === null ? {} : { cursor: cursorId(after) }) },
    (at) => {
      readAt = Math.min(readAt, at)
    },
  )
  const results = rows
    .slice(0, first)
    .map(({ id, content, createdAt }) => ({ id, content, created_at: createdAt.toISOString() }))
  const next = rows.length > first && results.length > 0 ? formatPrismaCursor({ id: results.at(-1)!.id }, 'id') : null
  return { text: JSON.stringify({ results, next }), readAt }
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
export async function getReceipt(app: App, response: ServerResponse, id: string): Promise<void> {
  const receipt = await app.receipts.find(checkId(id))
  if (!receipt) throw new HttpError(404, `No save with the id ${checkId(id)} was ever accepted, or it is long gone.`)
  sendJson(response, 200, await receiptJson(app, receipt))
}

async function receiptJson(app: App, receipt: Receipt) {
  const { id, status, duplicate, acceptedAt, conflicts, failure } = receipt
  const content = status === 'QUEUED' ? undefined : (receipt.content ?? (await app.contents.find(id)))
  return { id, status, duplicate, acceptedAt, conflicts, content: content ?? null, failure: failure ?? null }
}
