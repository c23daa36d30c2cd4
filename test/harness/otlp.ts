/** A receiver of traces (OTLP over HTTP, JSON) that keeps every span it is sent. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface TestSpan {
  traceId: string
  spanId: string
  /** Undefined for the root of a trace. */
  parentSpanId: string | undefined
  name: string
  /** 2 server, 3 client, 4 producer, 5 consumer. */
  kind: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes: Record<string, unknown>
  links: { traceId: string; spanId: string }[]
  status: { code: number }
  service: unknown
}

export interface Receiver {
  readonly url: string
  readonly spans: TestSpan[]
  /** Of the last request. */
  readonly headers: Record<string, unknown>
  /** All that was ever sent, as it came. */
  readonly text: string
  of(traceId: string): TestSpan[]
  close(): Promise<void>
}

interface Attribute {
  key: string
  value: Record<string, unknown>
}

type Sent = Omit<TestSpan, 'attributes' | 'links'> & { attributes?: Attribute[]; links?: TestSpan['links'] }

interface Body {
  resourceSpans: { resource: { attributes: Attribute[] }; scopeSpans: { spans: Sent[] }[] }[]
}

/** With `silent` it takes everything and never answers. */
export async function startReceiver({ silent = false } = {}): Promise<Receiver> {
  const spans: TestSpan[] = []
  let text = ''
  let headers: Record<string, unknown> = {}
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    if (silent) return
    text += body
    headers = request.headers
    if (request.method === 'POST' && request.url === '/v1/traces') spans.push(...spansOf(JSON.parse(body)))
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    get headers() {
      return headers
    },
    get text() {
      return text
    },
    of: (traceId) => spans.filter((span) => span.traceId === traceId),
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function spansOf({ resourceSpans }: Body): TestSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        ...span,
        attributes: record(span.attributes ?? []),
        links: span.links ?? [],
        service: record(resource.attributes)['service.name'],
      })),
    ),
  )
}

function record(attributes: readonly Attribute[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))
}
