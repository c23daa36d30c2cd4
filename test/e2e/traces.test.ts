/**
 * Traces: one save is one trace, from the request through the queue to the worker's commit and the event, on both set-ups; the client's
 * trace context and its wish not to be traced are honoured; what a batch tells is bounded; a receiver that is away costs nothing but a
 * warning; and without the setting nothing of it is loaded.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps } from '../harness/boot.ts'
import { holds } from '../harness/eventually.ts'
import { type Receiver, startReceiver, type TestSpan } from '../harness/otlp.ts'
import { spawnSpillway } from '../harness/process.ts'
import { putRows } from '../harness/rows.ts'

const hex = (bytes: number) => randomBytes(bytes).toString('hex')
const newTrace = () => ({ traceId: hex(16), spanId: hex(8) })
const traceparent = ({ traceId, spanId }: { traceId: string; spanId: string }, flags = '01') =>
  `00-${traceId}-${spanId}-${flags}`

const save =
  'mutation ($content: String!, $id: ID, $waitMs: Int) { save(content: $content, id: $id, waitMs: $waitMs) { saveId status duplicate } }'

const names = (spans: readonly TestSpan[]) => spans.map(({ name }) => name).sort()

function named(spans: readonly TestSpan[], name: string): TestSpan {
  const found = spans.filter((span) => span.name === name)
  expect(found, `spans named ${name} among ${names(spans)}`).toHaveLength(1)
  return found[0]!
}

const whole = (request: string) => ['INSERT Content', request, 'process spillway', 'publish saved', 'send spillway']

describe.each(setUps)('Spillway (%s)', (setUp) => {
  let receiver: Receiver
  let system: Spillway
  let env: Record<string, string>
  beforeAll(async () => {
    receiver = await startReceiver()
    env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
      OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%2Cb=c, authorization=Bearer x',
      OTEL_SERVICE_NAME: 'traced',
    }
    system = await boot(setUp, { env, workers: 1, intervals: { delayMs: 100 } })
  })
  afterAll(async () => {
    await system?.stop()
    await receiver?.close()
  })

  // The first goes through Yoga; the fast path takes what it has seen twice.
  test.each([1, 2, 3])('exports one trace of a save over GraphQL, time %d', async (time) => {
    const client = newTrace()
    const secret = `secret ${hex(8)}`
    const { data } = await system.client.graphql(
      save,
      { content: secret, waitMs: 20_000 },
      { traceparent: traceparent(client), 'x-request-id': `request-${time}` },
    )
    expect(data.save.status).toBe('SAVED')
    const spans = await holds(() => {
      expect(names(receiver.of(client.traceId))).toEqual(whole('POST /graphql'))
      return receiver.of(client.traceId)
    })
    const request = named(spans, 'POST /graphql')
    const send = named(spans, 'send spillway')
    const process = named(spans, 'process spillway')
    const insert = named(spans, 'INSERT Content')
    const publish = named(spans, 'publish saved')
    expect(request).toMatchObject({ parentSpanId: client.spanId, kind: 2, service: 'traced' })
    expect(request.attributes).toMatchObject({
      'http.request.method': 'POST',
      'http.route': '/graphql',
      'http.response.status_code': 200,
    })
    expect(send).toMatchObject({ parentSpanId: request.spanId, kind: 4 })
    expect(send.attributes).toMatchObject({
      'messaging.system': setUp === 'embedded' ? 'sqlite' : 'redis',
      'messaging.destination.name': 'spillway',
      'messaging.operation.type': 'send',
      'messaging.message.id': data.save.saveId,
    })
    expect(process).toMatchObject({ parentSpanId: send.spanId, kind: 5 })
    expect(process.links).toMatchObject([{ traceId: client.traceId, spanId: send.spanId }])
    expect(process.attributes).toMatchObject({
      'messaging.operation.type': 'process',
      'messaging.batch.message_count': 1,
    })
    expect(insert).toMatchObject({ parentSpanId: send.spanId, kind: 3 })
    expect(insert.attributes).toEqual({
      'db.system.name': setUp === 'embedded' ? 'sqlite' : 'mysql',
      'db.operation.name': 'INSERT',
      'db.collection.name': 'Content',
    })
    expect(publish).toMatchObject({ parentSpanId: send.spanId, kind: 4 })
    expect(publish.attributes).toMatchObject({ 'messaging.destination.name': 'saved' })
    for (const { links } of [insert, publish]) expect(links).toMatchObject([{ spanId: process.spanId }])
    for (const span of spans) {
      expect(BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano)).toBe(true)
      expect(span.status.code).toBe(0)
    }
    expect(BigInt(publish.startTimeUnixNano) >= BigInt(insert.startTimeUnixNano)).toBe(true)
    expect(receiver.text).not.toContain(secret)
    expect(receiver.headers).toMatchObject({ 'x-key': 'a,b=c', authorization: 'Bearer x' })
  })

  test('starts a trace for POST /save without a well-formed traceparent', async () => {
    const before = new Set(receiver.spans)
    const response = await fetch(`${system.url}/save`, {
      method: 'POST',
      headers: { traceparent: `00-${'0'.repeat(32)}-${hex(8)}-01` },
      body: '{"content":"over REST"}',
    })
    const { id } = (await response.json()) as { id: string }
    await holds(() => {
      const send = receiver.spans.find(({ attributes }) => attributes['messaging.message.id'] === id)
      const spans = receiver.of(send!.traceId)
      expect(names(spans)).toEqual(whole('POST /save'))
      const request = named(spans, 'POST /save')
      expect(request.parentSpanId).toBeUndefined()
      expect(request.attributes['http.response.status_code']).toBe(202)
      expect(spans.some((span) => before.has(span))).toBe(false)
    })
  })

  test('exports one span for messages that were saved together', async () => {
    const client = newTrace()
    const inputs = Array.from({ length: 50 }, (_, i) => ({ content: `together ${i}`, id: randomUUID() }))
    const many = 'mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId } }'
    await system.client.graphql(many, { inputs }, { traceparent: traceparent(client) })
    await holds(() => {
      const spans = receiver.of(client.traceId)
      expect(names(spans)).toEqual(whole('POST /graphql'))
      expect(named(spans, 'send spillway').attributes).toMatchObject({ 'messaging.batch.message_count': 50 })
      expect(named(spans, 'INSERT Content').attributes).toMatchObject({ 'db.operation.batch.size': 50 })
      expect(named(spans, 'publish saved').attributes).toMatchObject({ 'messaging.batch.message_count': 50 })
    })
  })

  test('exports nothing of a save whose client does not sample it', async () => {
    const untraced = newTrace()
    const traced = newTrace()
    const wait = { content: 'x', waitMs: 20_000 }
    expect(
      (await system.client.graphql(save, wait, { traceparent: traceparent(untraced, '00') })).data.save.status,
    ).toBe('SAVED')
    await system.client.graphql(save, wait, { traceparent: traceparent(traced) })
    await holds(() => expect(names(receiver.of(traced.traceId))).toEqual(whole('POST /graphql')))
    expect(receiver.of(untraced.traceId)).toEqual([])
  })

  test('exports the reason of a failed save', async () => {
    const id = randomUUID()
    await putRows(system.env.DATABASE_URL!, [id], 'first')
    const client = newTrace()
    const { data } = await system.client.graphql(
      save,
      { content: 'other', id, waitMs: 20_000 },
      { traceparent: traceparent(client) },
    )
    expect(data.save.status).toBe('FAILED')
    await holds(() => {
      const spans = receiver.of(client.traceId)
      expect(names(spans)).toEqual(whole('POST /graphql'))
      expect(named(spans, 'INSERT Content').status.code).toBe(2)
      expect(named(spans, 'publish saved').attributes).toMatchObject({ 'spillway.failure.code': 'ID_CONFLICT' })
    })
  })

  test('exports what is left when it stops', async () => {
    // By itself it would send nothing during the test.
    const stopping = await boot(setUp, { env, workers: 1, intervals: { delayMs: 600_000 } })
    const client = newTrace()
    const { data } = await stopping.client.graphql(
      save,
      { content: 'last', waitMs: 20_000 },
      { traceparent: traceparent(client) },
    )
    expect(data.save.status).toBe('SAVED')
    expect(receiver.of(client.traceId)).toEqual([])
    const processes = [stopping.api, ...stopping.workers]
    await stopping.stop('SIGTERM')
    expect(await Promise.all(processes.map(({ exited }) => exited))).toEqual(processes.map(() => 0))
    expect(names(receiver.of(client.traceId))).toEqual(whole('POST /graphql'))
  })
})

describe('a worker at a long queue', () => {
  let receiver: Receiver
  let system: Spillway
  beforeAll(async () => {
    receiver = await startReceiver()
    system = await boot('redis + mariadb', { env: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url }, workers: 0 })
  })
  afterAll(async () => {
    await system?.stop()
    await receiver?.close()
  })

  test('links a hundred traces a batch at most, and treats a retry of another trace as a duplicate', async () => {
    const ids = Array.from({ length: 300 }, () => randomUUID())
    const send = (id: string) =>
      system.client.graphql(save, { content: 'x', id }, { traceparent: traceparent(newTrace()) })
    await Promise.all(ids.map(send))
    expect((await send(ids[0]!)).data.save).toMatchObject({ status: 'QUEUED', duplicate: true })
    expect((await system.client.queue()).depth).toBe(300)
    await system.startWorker()
    await holds(async () => expect((await system.client.queue()).depth).toBe(0))
    const worker = system.workers.pop()!
    worker.kill('SIGTERM')
    await worker.exited
    const of = (name: string) => receiver.spans.filter((span) => span.name === name)
    const batches = of('process spillway')
    expect(batches.reduce((sum, { attributes }) => sum + Number(attributes['messaging.batch.message_count']), 0)).toBe(
      300,
    )
    expect(Math.max(...batches.map(({ links }) => links.length))).toBe(100)
    const told = batches.reduce((sum, { links }) => sum + links.length, 0)
    expect(told).toBeLessThan(300)
    expect(of('INSERT Content')).toHaveLength(told)
    expect(of('publish saved')).toHaveLength(told)
    expect(new Set(of('INSERT Content').map(({ traceId }) => traceId)).size).toBe(told)
  })
})

describe('an OTLP receiver', () => {
  // Both at once: they wait for the exporter to give up.
  test.concurrent.for(['is away', 'never answers'])(
    'that %s delays neither saves nor the stop',
    { timeout: 60_000 },
    async (which, { onTestFinished }) => {
      const receiver = await startReceiver({ silent: true })
      if (which === 'is away') await receiver.close()
      else onTestFinished(() => receiver.close())
      const api = await spawnSpillway('api', { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url })
      onTestFinished(async () => {
        api.kill('SIGKILL')
        await api.exited
      })
      const warnings = () => api.logs().split('traces cannot be sent').length - 1
      await holds(
        async () => {
          const { data } = await api.client.graphql(save, { content: 'x', waitMs: 20_000 })
          expect(data.save.status).toBe('SAVED')
          expect(warnings()).toBe(1)
        },
        { timeoutMs: 20_000 },
      )
      // More spans than may wait: four for each save.
      for (let i = 0; i < 30; i++) {
        await Promise.all(Array.from({ length: 20 }, () => api.client.graphql(save, { content: 'x' })))
      }
      const started = performance.now()
      api.kill('SIGTERM')
      expect(await api.exited).toBe(0)
      expect(performance.now() - started).toBeLessThan(8_000)
      expect(warnings()).toBe(1)
    },
  )
})

describe('Spillway', () => {
  /** Says of each module of OpenTelemetry's that it is loaded, in threads, too. */
  const spy = `data:text/javascript,${encodeURIComponent(`
    import { writeSync } from 'node:fs'
    import { registerHooks } from 'node:module'
    registerHooks({
      load(url, context, next) {
        const name = /node_modules\\/(@opentelemetry\\/[^/]+)/.exec(url)?.[1]
        if (name) writeSync(1, 'loaded ' + name + '\\n')
        return next(url, context)
      },
    })
  `)}`

  async function loaded(env: Record<string, string>): Promise<Set<string>> {
    const api = await spawnSpillway('api', env, { execArgv: ['--import', spy] })
    expect((await api.client.graphql(save, { content: 'x', waitMs: 20_000 })).data.save.status).toBe('SAVED')
    api.kill('SIGTERM')
    await api.exited
    return new Set([...api.logs().matchAll(/^loaded (\S+)$/gm)].map(([, name]) => name!))
  }

  test('loads only the API of OpenTelemetry without OTEL_EXPORTER_OTLP_ENDPOINT', async () => {
    expect([...(await loaded({}))]).toEqual(['@opentelemetry/api'])
  })

  test('loads the exporter of OpenTelemetry with OTEL_EXPORTER_OTLP_ENDPOINT', async () => {
    const names = await loaded({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' })
    expect(names).toContain('@opentelemetry/sdk-trace')
    expect(names).toContain('@opentelemetry/exporter-trace-otlp-http')
  })
})
