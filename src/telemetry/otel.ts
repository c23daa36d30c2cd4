/**
 * Traces by OpenTelemetry, sent as OTLP over HTTP (JSON). Imported only where OTEL_EXPORTER_OTLP_ENDPOINT is set. Names and attributes
 * follow the semantic conventions for HTTP, messaging and databases. Invariant: tracing neither blocks a save nor fails it; spans that
 * cannot be sent are dropped, with a warning at most once a minute.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { hostname } from 'node:os'
import {
  type Attributes,
  type Context,
  isSpanContextValid,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import type { Log } from '../model/log.ts'
import type { Processing, Sending, Step, TracedRequest, Tracer } from '../model/tracer.ts'

export interface OtelOptions {
  /** Without /v1/traces. */
  endpoint: string
  /** As OTEL_EXPORTER_OTLP_HEADERS: NAME=VALUE pairs, separated by commas, percent-encoded. */
  headers: string | undefined
  serviceName: string
  /** As OTEL_TRACES_SAMPLER. */
  sampler: string
  /** The part of the traces that a sampler by ratio takes. */
  ratio: number
  /** The values of `messaging.system` and `db.system.name`. */
  queue: string
  store: string
  log: Log
}

/** How long spans are collected before they are sent together. */
const delayMs = 2_000
/** The bound of one export with its retries, and of the last export during a stop. */
const exportTimeoutMs = 2_000
const warnEveryMs = 60_000
const queueName = 'spillway'
const eventsName = 'saved'

export class OtelTracer implements Tracer {
  readonly #provider: TracerProvider
  readonly #tracer: ReturnType<TracerProvider['getTracer']>
  readonly #requests = new AsyncLocalStorage<Context>()
  readonly #options: OtelOptions

  constructor(options: OtelOptions) {
    const { endpoint, headers, serviceName, log } = options
    this.#options = options
    const url = `${endpoint.replace(/\/+$/, '')}/v1/traces`
    const exporter = new OTLPTraceExporter({ url, headers: headersOf(headers), timeoutMillis: exportTimeoutMs })
    this.#provider = new TracerProvider({
      resource: resourceFromAttributes({
        'service.name': serviceName,
        'service.instance.id': `${hostname()}-${process.pid}`,
      }),
      sampler: samplerOf(options),
      spanProcessors: [
        // At most 2,048 spans wait; more are dropped.
        new BatchSpanProcessor({ exporter: warning(exporter, log), scheduledDelayMillis: delayMs }),
      ],
    })
    this.#tracer = this.#provider.getTracer('spillway')
  }

  request({ method, route, id, traceparent }: TracedRequest, act: (done: (status?: number) => void) => void): void {
    const span = this.#tracer.startSpan(
      `${method} ${route}`,
      {
        kind: SpanKind.SERVER,
        attributes: {
          'http.request.method': method,
          'http.route': route,
          'url.path': route,
          'url.scheme': 'http',
          'http.response.header.x-request-id': [id],
        },
      },
      contextOf(traceparent),
    )
    this.#requests.run(trace.setSpan(ROOT_CONTEXT, span), act, (status) => {
      if (status === undefined) failed(span, 'aborted')
      else {
        span.setAttribute('http.response.status_code', status)
        if (status >= 500) failed(span, String(status))
      }
      span.end()
    })
  }

  send(): Sending | undefined {
    const span = this.#tracer.startSpan(
      `send ${queueName}`,
      { kind: SpanKind.PRODUCER, attributes: this.#messaging('send', 'send', queueName) },
      // A save over WebSocket belongs to no request: it begins a trace.
      this.#requests.getStore() ?? ROOT_CONTEXT,
    )
    if (!span.isRecording()) return undefined
    return {
      context: traceparentOf(span.spanContext()),
      end: (ids, error) => {
        if (ids.length === 1) span.setAttribute('messaging.message.id', ids[0]!)
        else span.setAttribute('messaging.batch.message_count', ids.length)
        if (error !== undefined) failed(span, error)
        span.end()
      },
    }
  }

  process(contexts: readonly string[], messages: number): Processing {
    const links = contexts.flatMap((context) => parse(context) ?? []).map((context) => ({ context }))
    const span = this.#tracer.startSpan(
      `process ${queueName}`,
      {
        kind: SpanKind.CONSUMER,
        links,
        attributes: {
          ...this.#messaging('process', 'process', queueName),
          'messaging.batch.message_count': messages,
        },
      },
      // A span has one parent and a batch has many: the first one is the parent, the others are linked.
      contextOf(contexts[0]),
    )
    const step = (
      name: string,
      kind: SpanKind,
      context: string,
      { startedAt, tookMs, error }: Step,
      attributes: Attributes,
    ) => {
      const links = [{ context: span.spanContext() }]
      const child = this.#tracer.startSpan(name, { kind, links, attributes, startTime: startedAt }, contextOf(context))
      if (error !== undefined) failed(child, error)
      child.end(startedAt + tookMs)
    }
    return {
      inserted: (context, outcome) =>
        step(`INSERT ${outcome.table}`, SpanKind.CLIENT, context, outcome, {
          'db.system.name': this.#options.store,
          'db.operation.name': 'INSERT',
          'db.collection.name': outcome.table,
          // The conventions exclude a batch of one.
          ...(outcome.count > 1 ? { 'db.operation.batch.size': outcome.count } : {}),
        }),
      published: (context, outcome) =>
        step(`publish ${eventsName}`, SpanKind.PRODUCER, context, outcome, {
          ...this.#messaging('publish', 'send', eventsName),
          'messaging.batch.message_count': outcome.count,
          ...(outcome.failure === undefined ? {} : { 'spillway.failure.code': outcome.failure }),
        }),
      end: () => span.end(),
    }
  }

  /** Sends the remaining spans, within `exportTimeoutMs`. May be called twice. */
  async close(): Promise<void> {
    const late = Promise.withResolvers<void>()
    const timer = setTimeout(late.resolve, exportTimeoutMs)
    // `warning` has logged that the endpoint is unavailable.
    await Promise.race([this.#provider.shutdown().catch(() => {}), late.promise])
    clearTimeout(timer)
  }

  #messaging(name: string, type: string, destination: string): Attributes {
    return {
      'messaging.system': this.#options.queue,
      'messaging.destination.name': destination,
      'messaging.operation.name': name,
      'messaging.operation.type': type,
    }
  }
}

function headersOf(text = ''): Record<string, string> {
  const pairs = text.split(',').filter(Boolean)
  return Object.fromEntries(
    pairs.map((pair) => {
      const mark = pair.indexOf('=')
      return [pair.slice(0, mark).trim(), decodeURIComponent(pair.slice(mark + 1).trim())]
    }),
  )
}

function samplerOf({ sampler, ratio }: OtelOptions): Sampler {
  const name = sampler.replace('parentbased_', '')
  const root =
    name === 'always_on'
      ? new AlwaysOnSampler()
      : name === 'always_off'
        ? new AlwaysOffSampler()
        : new TraceIdRatioBasedSampler(ratio)
  return name === sampler ? root : new ParentBasedSampler({ root })
}

function failed(span: Span, type: string): void {
  span.setAttribute('error.type', type)
  span.setStatus({ code: SpanStatusCode.ERROR })
}

/** W3C Trace Context; a later version may append fields to the flags. */
const format = /^(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/

function parse(traceparent: string | undefined): SpanContext | undefined {
  const [, version, traceId = '', spanId = '', flags = '', more] = format.exec(traceparent ?? '') ?? []
  if (version === undefined || (version === '00' && more !== undefined)) return undefined
  const context = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true }
  return isSpanContextValid(context) ? context : undefined
}

function contextOf(traceparent: string | undefined): Context {
  const context = parse(traceparent)
  return context ? trace.setSpanContext(ROOT_CONTEXT, context) : ROOT_CONTEXT
}

function traceparentOf({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${(traceFlags & 1).toString(16).padStart(2, '0')}`
}

/** The exporter, with a warning in the log when it cannot send. */
function warning(exporter: SpanExporter, log: Log): SpanExporter {
  let lost = 0
  let warnedAt = Number.NEGATIVE_INFINITY
  return {
    export(spans, done) {
      exporter.export(spans, (result) => {
        // 1: not sent.
        if (result.code === 1) {
          lost += spans.length
          const now = performance.now()
          if (now - warnedAt >= warnEveryMs) {
            warnedAt = now
            log.warn(
              { spans: lost, reason: result.error?.message },
              'traces cannot be sent and are dropped: check OTEL_EXPORTER_OTLP_ENDPOINT',
            )
            lost = 0
          }
        }
        done(result)
      })
    },
    forceFlush: async () => await exporter.forceFlush?.(),
    shutdown: () => exporter.shutdown(),
  }
}
