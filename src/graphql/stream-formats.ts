/**
 * How a stream is written on an HTTP connection: as Server-Sent Events, or as the parts of Apollo's multipart subscriptions
 * (`multipart/mixed; subscriptionSpec=1.0`). Invariant: all subscribers of one format send the same buffer for a batch.
 */
import type { FormattedExecutionResult } from 'graphql'
import type { StreamType } from '../http/accept.ts'
import { type Batch, delimiter, frameOf, partOf } from './batch.ts'
import { heartbeatFrame, type Known } from './heartbeat.ts'

/** The errors that end a stream. */
export interface StreamErrors {
  errors: NonNullable<FormattedExecutionResult['errors']>
  /** Whether they are the response to the request, without any result before them. */
  isFirst: boolean
  /** Whether the end is `complete`; otherwise the client should try again later. */
  isFinal: boolean
}

export interface StreamFormat {
  contentType: string
  /** The first bytes, which some proxies and browsers wait for, with the cursor to resume from. */
  begin(cursor: string | undefined): string
  frames(batch: Batch): Buffer
  heartbeat(known: Known): Buffer
  /** The end after `begin`, and the whole response where they are the first. */
  errors(end: StreamErrors): string
  complete: string
}

const cursorErrors = ['CURSOR_EXPIRED', 'BAD_USER_INPUT']

const sse: StreamFormat = {
  contentType: 'text/event-stream; charset=utf-8',
  begin: (cursor) => (cursor === undefined ? ':\n\n' : `id: ${cursor}\n\n`),
  frames: ({ frames }) => frames,
  heartbeat: heartbeatFrame,
  errors: ({ errors, isFinal }) => {
    // An empty id replaces an invalid or expired cursor in the browser, so that it does not reconnect with that cursor.
    const resetsCursor = errors.some(({ extensions }) => cursorErrors.includes(String(extensions?.code)))
    return `${resetsCursor ? 'id:\n' : ''}${frameOf(JSON.stringify({ errors }))}${isFinal ? sse.complete : ''}`
  },
  complete: 'event: complete\ndata:\n\n',
}

const emptyPart = Buffer.from(partOf('{}'))

const multipart: StreamFormat = {
  contentType: 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0',
  begin: () => `${delimiter}${emptyPart}`,
  frames: ({ parts }) => parts,
  heartbeat: () => emptyPart,
  // The protocol tells errors of the request from errors that end a stream, which have no payload.
  errors: ({ errors, isFirst, isFinal }) => {
    const body = isFirst && isFinal ? { payload: { errors } } : { payload: null, errors }
    return `${isFirst ? delimiter : ''}${partOf(JSON.stringify(body))}${isFinal ? multipart.complete : ''}`
  },
  complete: '--\r\n',
}

export const formats: Record<StreamType, StreamFormat> = { sse, multipart }
