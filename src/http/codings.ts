/** How a body is coded: as it is, in UTF-8, whole or in chunks. Anything else would be read as something else than what was sent. */
import type { IncomingMessage } from 'node:http'
import { MIMEType } from 'node:util'
import { cut } from './cut.ts'
import { HttpError } from './http-error.ts'

/** Throws 501 for a body that is coded otherwise than in chunks (RFC 9112, 6.1): Node takes the chunks apart, and nothing else. */
export function checkTransfer({ headers }: IncomingMessage): void {
  const coding = headers['transfer-encoding']
  if (coding === undefined || coding.toLowerCase() === 'chunked') return
  throw new HttpError(
    501,
    `Transfer-Encoding ${cut(coding, 100)} is not supported; send the body as it is, or in chunks.`,
  )
}

/** Throws 415 for a body that is compressed, or in another charset than UTF-8. */
export function checkCoding({ headers }: IncomingMessage): void {
  const encoding = headers['content-encoding']
  if (encoding && encoding !== 'identity') {
    throw new HttpError(415, `Content-Encoding ${cut(encoding, 100)} is not supported; send the body as it is.`)
  }
  const charset = charsetOf(headers['content-type'])
  if (charset !== undefined && !/^utf-?8$/i.test(charset)) {
    throw new HttpError(415, `The charset ${JSON.stringify(cut(charset, 100))} is not supported; send UTF-8.`)
  }
}

/** undefined: it names none. */
function charsetOf(type: string | undefined): string | undefined {
  if (type === undefined || !/charset/i.test(type)) return undefined
  try {
    return new MIMEType(type).params.get('charset') ?? undefined
  } catch {
    return undefined
  }
}
