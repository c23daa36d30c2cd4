/**
 * What the layers tell of a save's way, for whoever draws it: a request sends messages, a worker processes them, which is to insert their
 * rows and to publish their events. Contexts are W3C traceparents. No content is ever told.
 */
export interface Tracer {
  /** Runs `act` as one request: what is sent within belongs to it. `done` is told the status, or undefined where nobody got an answer. */
  request(request: TracedRequest, act: (done: (status: number | undefined) => void) => void): void
  /** Messages set out for the queue; undefined where their trace is not wanted. One that never ends was refused before, and is not told. */
  send(): Sending | undefined
  /** A worker has taken messages; `contexts` are those of the traced ones among them, at least one. */
  process(contexts: readonly string[], messages: number): Processing
}

export interface TracedRequest {
  method: string
  /** One of a few: never what only the client knows. */
  route: string
  /** The one in logs and answers. */
  id: string
  /** As the client sent it; what is none counts as none. */
  traceparent: string | undefined
}

export interface Sending {
  /** For the messages to take along. */
  context: string
  /** The queue has answered; `error` is the code it refused them with. */
  end(ids: readonly string[], error?: string): void
}

export interface Processing {
  /** Of the messages sent in this context, rows were inserted, or could not be. */
  inserted(context: string, step: Step): void
  /** Of the messages sent in this context, events were published, or could not be. */
  published(context: string, step: Step & { failure: string | undefined }): void
  end(): void
}

/** A step that is over, for all who took part in it. */
export interface Step {
  /** Milliseconds since 1970. */
  startedAt: number
  /** With fractions. */
  tookMs: number
  /** Rows or events, those of other contexts included. */
  count: number
  /** The kind of error that it ended with. */
  error: string | undefined
}
