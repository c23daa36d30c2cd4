/**
 * A message is what `save` puts into the queue: everything the database action needs, versioned, so that a worker of another release
 * knows whether it understands it. The words used for what happens to it are in GLOSSARY.md beside this file.
 */
export interface Message {
  v: 1
  /** Which model it is for: what a worker does with it. */
  type: 'content'
  id: string
  /** When it was accepted: milliseconds since 1970, the clock of the API process. */
  at: number
  content: string
  /** W3C trace context, when tracing is on. */
  trace?: string
}

export function encode(message: Message): string {
  return JSON.stringify(message)
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
