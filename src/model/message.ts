/**
 * A message is what `save` puts into the queue: everything the database action needs, versioned, so that a worker of another release
 * knows whether it understands it. docs/glossary.md has the words.
 */
export interface Message {
  v: 1
  /** Which model it is for: what a worker does with it. */
  type: 'content'
  id: string
  /** When it was accepted: milliseconds since 1970, the clock of the API process. */
  at: number
  content: string
  /** W3C traceparent, where the trace of this save is wanted. The last one: `traceOf` looks for it at the end. */
  trace?: string
}

/** As JSON.stringify would, in half the time: only the content may hold what has to be escaped. */
export function encode({ v, type, id, at, content, trace }: Message): string {
  const end = trace === undefined ? '}' : `,"trace":"${trace}"}`
  return `{"v":${v},"type":"${type}","id":"${id}","at":${at},"content":${JSON.stringify(content)}${end}`
}

/**
 * The traceparent of an encoded message, if it has one and is to be traced. Found without decoding it all: no content can end like this,
 * since a quote within it is written with a backslash before it.
 */
export function traceOf(body: string): string | undefined {
  return /,"trace":"(00-[0-9a-f]{32}-[0-9a-f]{16}-01)"\}$/.exec(body.slice(-70))?.[1]
}

/** The message, or why it cannot be one: never throws, since what is in the queue may come from anywhere. */
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
