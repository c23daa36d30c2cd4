/**
 * Tracing hooks of the save path: a request sends messages; a worker processes them, inserts their rows and publishes their events.
 * Contexts are W3C traceparents. Traces hold no content.
 */
export interface Tracer {
  /** Runs `act` as one request: messages that are sent within belong to it. `done` gets the status, or undefined if no response was sent. */
  request(request: TracedRequest, act: (done: (status: number | undefined) => void) => void): void
  /** Messages are about to be enqueued; undefined if they are not traced. A sending that never ends was refused before, and is dropped. */
  send(): Sending | undefined
  /** A worker has received messages; `contexts` are those of the traced ones among them, at least one. */
  process(contexts: readonly string[], messages: number): Processing
}

export interface TracedRequest {
  method: string
  /** One of a few: never a value that the client chose. */
  route: string
  /** The request id of logs and responses. */
  id: string
  /** As the client sent it; an invalid one is ignored. */
  traceparent: string | undefined
}

export interface Sending {
  /** To store in the messages. */
  context: string
  /** The queue has answered; `error` is the code of its refusal. */
  end(ids: readonly string[], error?: string): void
}

export interface Processing {
  /** The insert of rows of messages of this context succeeded or failed. */
  inserted(context: string, step: Step & { table: string }): void
  /** The publishing of events of messages of this context succeeded or failed. */
  published(context: string, step: Step & { failure: string | undefined }): void
  end(): void
}

/** A finished step, of all contexts that took part in it. */
export interface Step {
  /** Milliseconds since 1970. */
  startedAt: number
  /** With fractions. */
  tookMs: number
  /** The number of rows or events, of all contexts. */
  count: number
  /** The kind of error that it ended with. */
  error: string | undefined
}
