/** Responses that seldom change: a client that has the present one, and says so by its ETag, gets 304 and no body (RFC 9110, 13.1.2). */
import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { sendText, setCommonHeaders } from './respond.ts'

export interface Tagged {
  type: string
  body: Buffer
  etag: string
}

export function tagged(type: string, body: Buffer): Tagged {
  return { type, body, etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"` }
}

/** A client may keep it, and asks each time whether it is still the present one, unless `headers` have another Cache-Control. */
export function sendTagged(
  { request, response }: { request: IncomingMessage; response: ServerResponse },
  { type, body, etag }: Tagged,
  headers: Record<string, string> = {},
): void {
  const all = { 'cache-control': 'no-cache', ...headers, etag }
  if (!isKnown(request.headers['if-none-match'], etag)) {
    sendText(response, 200, type, body, all)
    return
  }
  const { 'content-encoding': _, ...kept } = all as Record<string, string>
  setCommonHeaders(response)
  response.writeHead(304, kept).end()
}

/** No tag of this server has a comma. */
function isKnown(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  return header.trim() === '*' || header.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag)
}
