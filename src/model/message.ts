/**
 * A message: a save as the queue stores it, with everything that the insert needs. By its version, a worker of another release recognises
 * a message that it cannot decode. docs/glossary.md defines the terms.
 */
export interface Message {
  v: 1
  /** The model. */
  type: 'content'
  id: string
  /** When it was enqueued: milliseconds since 1970, by the clock of the API process. */
  at: number
  content: string
  /** W3C traceparent, if this save is traced. The last field: `traceOf` reads it at the end. */
  trace?: string
}

/** The same text as JSON.stringify, in half the time: only the content may need escaping. */
export function encode({ v, type, id, at, content, trace }: Message): string {
  const end = trace === undefined ? '}' : `,"trace":"${trace}"}`
  return `{"v":${v},"type":"${type}","id":"${id}","at":${at},"content":${JSON.stringify(content)}${end}`
}

/**
 * The traceparent of an encoded message, if it has one that is sampled. Found without decoding the message: no content can end like this,
 * since a quote within it is escaped.
 */
export function traceOf(body: string): string | undefined {
  return /,"trace":"(00-[0-9a-f]{32}-[0-9a-f]{16}-01)"\}$/.exec(body.slice(-70))?.[1]
}

/** The message, or what is wrong with it. Never throws: any program may have written to the queue. */
export function decode(body: string): Message | { problem: string } {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    return { problem: 'the message is not JSON' }
  }
  if (typeof value !== 'object' || value === null) return { problem: 'the message is not a JSON object' }
  const { v, type, id, at, content } = value as Record<string, unknown>
  if (v !== 1) return { problem: `the message has version ${JSON.stringify(v)}; this worker understands version 1` }
  if (type !== 'content')
    return { problem: `the message has type ${JSON.stringify(type)}; this worker understands "content"` }
  if (typeof id !== 'string' || typeof content !== 'string' || typeof at !== 'number' || !Number.isFinite(at)) {
    return { problem: 'the message lacks a well-formed id, at or content' }
  }
  return value as Message
}
