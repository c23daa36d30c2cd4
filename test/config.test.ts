import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ConfigError, envExample, readConfig } from '../src/config.ts'

function problems(env: Record<string, string>, file: Record<string, string> = {}): string {
  try {
    readConfig(env, file)
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError)
    return (error as Error).message
  }
  throw new Error('expected these settings to be refused')
}

describe('settings', () => {
  it('have the documented defaults', () => {
    expect(readConfig({}, {})).toEqual({
      host: '127.0.0.1',
      port: 8080,
      auth: { secret: undefined, jwksUrl: undefined, issuer: undefined, audience: undefined },
      allowedHosts: ['localhost', '127.0.0.1', '::1'],
      corsOrigins: [],
      databaseUrl: 'file:./data/spillway.db',
      databaseReadUrl: undefined,
      queueUrl: 'file:./data/queue.db',
      cacheUrl: 'memory:',
      cacheTtlMs: 10_000,
      contentMaxBytes: 65_536,
      queueCapacity: 1_000_000,
      eventsRetentionMs: 3_600_000,
      eventsRetentionBytes: 268_435_456,
      workerBatch: 1_000,
      workerConcurrency: 2,
      workerMaxAttempts: 5,
      workerPort: undefined,
      requestsPerSecond: undefined,
      streamsPerClient: undefined,
      maxConnections: 15_000,
      introspection: true,
      traces: undefined,
      operations: undefined,
      production: false,
      failpoint: undefined,
    })
  })

  it('come from the environment first, then from .env; empty ones count as left out', () => {
    const config = readConfig({ PORT: '1', WORKER_BATCH: '' }, { PORT: '2', CACHE_TTL_MS: '500', WORKER_BATCH: '7' })
    expect(config).toMatchObject({ port: 1, cacheTtlMs: 500, workerBatch: 7 })
  })

  it('are refused with every problem named in one message', () => {
    const message = problems({
      PORT: 'eighty',
      QUEUE_CAPACITY: '0',
      WORKER_BATCH: '1e3',
      CACHE_TTL_MS: '-1',
      DATABASE_URL: 'postgres://x',
    })
    expect(message.match(/^ {2}- /gm)).toHaveLength(5)
    for (const name of ['PORT must be', 'QUEUE_CAPACITY', 'WORKER_BATCH', 'CACHE_TTL_MS', 'DATABASE_URL'])
      expect(message).toContain(name)
  })

  it('say where traces go, by which rule, and with which headers', () => {
    const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' }
    expect(readConfig(endpoint, {}).traces).toEqual({
      endpoint: 'http://127.0.0.1:4318',
      headers: undefined,
      serviceName: 'spillway',
      sampler: 'parentbased_always_on',
      ratio: 1,
    })
    const headers = { ...endpoint, OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%2Cb=c, authorization=Bearer x' }
    expect(readConfig(headers, {}).traces?.headers).toBe(headers.OTEL_EXPORTER_OTLP_HEADERS)
    const message = problems({
      OTEL_EXPORTER_OTLP_ENDPOINT: '127.0.0.1:4318',
      OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%0d%0asecret',
      OTEL_TRACES_SAMPLER: 'sometimes',
      OTEL_TRACES_SAMPLER_ARG: '2',
    })
    for (const name of Object.keys(headers)) expect(message).toContain(`${name} must be`)
    expect(message).toContain('OTEL_TRACES_SAMPLER must be one of')
    expect(message).toContain('OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1')
    expect(message).not.toContain('secret')
  })

  it('are refused when unknown, with the one that was meant', () => {
    expect(problems({ QUEUE_CAPACTIY: '10' })).toContain(
      "QUEUE_CAPACTIY is no setting of Spillway's; did you mean QUEUE_CAPACITY?",
    )
    expect(problems({ DATABSE_URL: 'file:x' })).toContain('did you mean DATABASE_URL?')
    expect(problems({}, { COLOUR: 'red' })).toContain('COLOUR in .env is no setting')
  })

  it('are not mistaken for what others put into the environment', () => {
    const others = {
      HOSTNAME: 'x',
      QUEUE_SERVICE_HOST: '10.0.0.1',
      WORKER_PORT_80_TCP: 'tcp://10.0.0.1:80',
      QUEUE_PORT: 'tcp://…',
      PATH: '/bin',
    }
    expect(() => readConfig(others, {})).not.toThrow()
  })

  it('do not put store and queue into one file', () => {
    expect(problems({ DATABASE_URL: 'file:./x.db', QUEUE_URL: 'file:./x.db' })).toContain('name the same file')
  })

  it('never repeat a password', () => {
    expect(
      problems({
        DATABASE_URL: 'mysql//root:hunter2@db/x',
        QUEUE_URL: 'redsi://:hunter2@x',
        CACHE_URL: 'redis://:hunter2@[',
      }),
    ).not.toContain('hunter2')
  })

  it('do not open the server to others by accident (P10)', () => {
    expect(problems({ HOST: '0.0.0.0' })).toContain('AUTH=none')
    expect(problems({ HOST: '::' })).toContain('AUTH=none')
    expect(problems({ HOST: '192.168.1.5' })).toContain('AUTH=none')
    expect(readConfig({ HOST: '0.0.0.0', AUTH: 'none' }, {}).host).toBe('0.0.0.0')
    for (const HOST of ['127.0.0.1', '127.9.9.9', 'localhost', '::1']) expect(readConfig({ HOST }, {}).host).toBe(HOST)
  })

  it('ask for a token that means us, checked in one way', () => {
    expect(problems({ AUTH_JWT_SECRET: 'short' })).toContain('at least 32 bytes')
    const secret = 'x'.repeat(32)
    expect(problems({ AUTH_JWT_SECRET: secret, AUTH: 'none' })).toContain('contradict each other')
    expect(problems({ AUTH_JWT_SECRET: secret, AUTH_JWKS_URL: 'https://x/keys', AUTH_AUDIENCE: 'a' })).toContain(
      'two ways',
    )
    expect(problems({ AUTH_JWKS_URL: 'https://x/keys' })).toContain('AUTH_AUDIENCE')
    expect(readConfig({ HOST: '0.0.0.0', AUTH_JWT_SECRET: secret }, {})).toMatchObject({
      auth: { secret },
      allowedHosts: [],
    })
  })

  it('may be read from files, as secrets are mounted', () => {
    const dir = mkdtempSync(join(tmpdir(), 'spillway-config-'))
    writeFileSync(join(dir, 'secret'), `${'s'.repeat(40)}\n`)
    expect(readConfig({ AUTH_JWT_SECRET_FILE: join(dir, 'secret') }, {}).auth.secret).toBe('s'.repeat(40))
    expect(problems({ DATABASE_URL_FILE: join(dir, 'nothing') })).toContain(
      'DATABASE_URL_FILE names a file that cannot be read',
    )
    expect(problems({ PORT_FILE: 'x', WORKER_BATCH_FILE: 'x' })).toContain('WORKER_BATCH_FILE is no setting')
    rmSync(dir, { recursive: true })
  })

  it('stand in .env.example as they are (npm run docs writes it)', () => {
    expect(readFileSync('.env.example', 'utf8')).toBe(envExample())
  })
})
