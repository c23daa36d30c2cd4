/**
 * Every setting, once; the only reader of process.env. A setting that is malformed or misspelt stops the start, with all problems named
 * in one message, and no value that may hold a password is ever repeated. Names of others are noted and ignored.
 */
import { isIP } from 'node:net'
import * as z from 'zod'
import { readEnvFile } from './config/env-file.ts'
import { type Checked, checkHost, checkList, checkOrigin } from './config/lists.ts'
import { checkNames, isServiceAddress } from './config/names.ts'
import { readOperations } from './config/operations.ts'
import { readTextFile } from './config/text-file.ts'
import { isSameFile, lowerCaseScheme, secretsOf, type UrlRule, urlProblem } from './config/urls.ts'

const number = (min: number, max: number) =>
  z
    .string()
    .refine((text) => /^\d+$/.test(text) && Number(text) >= min && Number(text) <= max, {
      error: `must be a whole number from ${min} to ${max}`,
    })
    .transform(Number)

const whole = (min: number, max: number, fallback: number) => number(min, max).prefault(String(fallback))

const url = (protocols: string[], expected: string, more: Pick<UrlRule, 'credentials'> = {}) =>
  z
    .string()
    .superRefine((text, context) => {
      const problem = urlProblem(text, { protocols, expected, ...more })
      if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
    })
    .transform(lowerCaseScheme)

const list = (check: (item: string) => Checked) =>
  z
    .string()
    .default('')
    .transform((text, context) =>
      checkList(text, check, (problem) => context.addIssue({ code: 'custom', message: problem })),
    )

/** Percent-encoded, as OpenTelemetry has it; printable ASCII once it is decoded. */
const headerFormat = /^\s*[\w.-]+=(%(?!7f)[2-7][\da-f]|[ -$&-+\--~])*$/i
const samplers = [
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
  'always_on',
  'always_off',
  'traceidratio',
] as const

/** Where a default is shown in .env.example, the setting may be left out. */
const settings = z.object({
  HOST: z
    .string()
    .toLowerCase()
    .transform((text) => text.replace(/^\[(.*)\]$/, '$1'))
    .refine((text) => isIP(text) !== 0 || /^[\w-]+(\.[\w-]+)*$/.test(text), {
      error: 'must be an address or a host name alone; the port is set by PORT',
    })
    .prefault('127.0.0.1')
    .describe('The address to listen on. Any other than loopback needs authentication, or AUTH=none.'),
  PORT: whole(0, 65535, 8080).describe('0: any free one.'),
  AUTH: z
    .string()
    .refine((text) => text === 'none', { error: 'must be none, or left out' })
    .optional()
    .describe('none: let everybody who can reach HOST read and write.'),
  AUTH_JWT_SECRET: z
    .string()
    .refine((text) => Buffer.byteLength(text) >= 32, { error: 'must be at least 32 bytes' })
    .optional()
    .describe('Ask for a bearer token (JWT), signed with this secret (HS256, at least 32 bytes).'),
  AUTH_JWKS_URL: url(['https:', 'http:'], 'https://…', { credentials: 'keys to check tokens with are public' })
    .optional()
    .describe('Ask for a bearer token (JWT), signed with one of the keys published here (RS, PS, ES, EdDSA).'),
  AUTH_ISSUER: z
    .string()
    .optional()
    .describe("What a token's `iss` has to be. Only with AUTH_JWT_SECRET or AUTH_JWKS_URL."),
  AUTH_AUDIENCE: z
    .string()
    .optional()
    .describe(
      "What a token's `aud` has to be, or hold. Required with AUTH_JWKS_URL, and only with it or AUTH_JWT_SECRET.",
    ),
  ALLOWED_HOSTS: list(checkHost).describe(
    'Host names to answer for, by commas. Left out: on loopback without authentication its own names, else all.',
  ),
  CORS_ORIGINS: list(checkOrigin).describe(
    'Origins whose pages may call this server, by commas, as in https://app.example.',
  ),
  RATE_LIMIT: number(1, 1_000_000)
    .optional()
    .describe(
      'Requests a second that one token, or else one address, may make at each API process. Left out: no limit.',
    ),
  STREAM_LIMIT: number(1, 1_000_000)
    .optional()
    .describe(
      'Event streams and WebSockets that one token, or else one address, may hold at each API process. Left out: no limit.',
    ),
  MAX_CONNECTIONS: whole(1, 1_000_000, 15_000).describe(
    'Connections to each API process. It takes as many open files (ulimit -n), and 600 more.',
  ),
  INTROSPECTION: z
    .enum(['on', 'off'], { error: 'must be on or off' })
    .optional()
    .describe('GraphiQL, and asking for the schema. Left out: on, but off with NODE_ENV=production.'),
  PERSISTED_OPERATIONS: z
    .string()
    .optional()
    .describe('A JSON file with a list of documents, or an object of them: no others may be sent then.'),
  DATABASE_URL: url(['file:', 'mysql:'], 'file:PATH or mysql://USER:PASSWORD@HOST:PORT/DATABASE')
    .default('file:./data/spillway.db')
    .describe(
      'The store: file:PATH (SQLite) or mysql://USER:PASSWORD@HOST:PORT/DATABASE (MySQL 8, MariaDB 10.6 or newer).',
    ),
  DATABASE_READ_URL: url(['mysql:'], 'mysql://USER:PASSWORD@HOST:PORT/DATABASE')
    .optional()
    .describe('A replica to read `contents` from. What is read is then as old as the replica lags.'),
  QUEUE_URL: url(['file:', 'redis:', 'rediss:'], 'file:PATH, redis://… or rediss://…')
    .default('file:./data/queue.db')
    .describe(
      'The queue and the events log: file:PATH (embedded; the API runs the worker itself) or redis://HOST:PORT.',
    ),
  CACHE_URL: url(['memory:', 'redis:', 'rediss:'], 'memory:, redis://… or rediss://…')
    .default('memory:')
    .describe('The cache: memory: or redis://HOST:PORT, an instance of its own that may evict.'),
  CACHE_TTL_MS: whole(1, 86_400_000, 10_000).describe('How long a page of contents may be kept, in milliseconds.'),
  CONTENT_MAX_BYTES: whole(1, 1_048_576, 65_536).describe('The longest content, in bytes of UTF-8.'),
  QUEUE_CAPACITY: whole(1, 100_000_000, 1_000_000).describe(
    'Messages in the queue from which on saves are refused with QUEUE_FULL.',
  ),
  EVENTS_RETENTION_MS: whole(1_000, 31_536_000_000, 3_600_000).describe(
    'How long a cursor stays good, in milliseconds …',
  ),
  EVENTS_RETENTION_BYTES: whole(1_048_576, 1_099_511_627_776, 268_435_456).describe(
    '… and up to what size of the events log, in bytes.',
  ),
  WORKER_BATCH: whole(1, 10_000, 1_000).describe('Rows per statement.'),
  WORKER_CONCURRENCY: whole(1, 64, 2).describe('Statements at once, per worker process.'),
  WORKER_PORT: number(0, 65535)
    .optional()
    .describe('Where a worker answers /livez, /readyz and /metrics, on HOST; left out: nowhere.'),
  WORKER_MAX_ATTEMPTS: whole(1, 1_000, 5).describe(
    'Tries of a message that fails by itself, before it becomes a dead letter.',
  ),
  OTEL_EXPORTER_OTLP_ENDPOINT: url(['http:', 'https:'], 'http://HOST:PORT or https://HOST:PORT', {
    credentials: 'use OTEL_EXPORTER_OTLP_HEADERS',
  })
    .optional()
    .describe('Where traces go, as OTLP over HTTP, to /v1/traces below it. Left out: nothing is traced.'),
  OTEL_EXPORTER_OTLP_HEADERS: z
    .string()
    .refine((text) => text.split(',').every((header) => headerFormat.test(header)), {
      error: 'must be NAME=VALUE, more of them by commas',
    })
    .optional()
    .describe('Headers to send along with them, as in NAME=VALUE, by commas; a comma in a value is %2C.'),
  OTEL_SERVICE_NAME: z.string().default('spillway').describe('The name that traces are under.'),
  OTEL_TRACES_SAMPLER: z
    .enum(samplers, { error: `must be one of ${samplers.join(', ')}` })
    .default('parentbased_always_on')
    .describe(`Which saves are traced: ${samplers.join(', ')}.`),
  OTEL_TRACES_SAMPLER_ARG: z
    .string()
    .refine((text) => /^(0(\.\d+)?|1(\.0+)?)$/.test(text), { error: 'must be a number from 0 to 1' })
    .transform(Number)
    .prefault('1')
    .describe('Of a sampler by ratio: the part of the traces, from 0 to 1.'),
})

/** Settings that may be secrets: NAME_FILE names a file to read the value from, as orchestrators mount them. */
const secrets = [
  'DATABASE_URL',
  'DATABASE_READ_URL',
  'QUEUE_URL',
  'CACHE_URL',
  'AUTH_JWT_SECRET',
  'OTEL_EXPORTER_OTLP_HEADERS',
]
const names = Object.keys(settings.shape)
const known = [...names, ...secrets.map((name) => `${name}_FILE`)]
const isKnown = (name: string) => known.includes(name)

export interface Config {
  host: string
  port: number
  auth: {
    secret: string | undefined
    jwksUrl: string | undefined
    issuer: string | undefined
    audience: string | undefined
  }
  /** Host names to answer for; empty: all. */
  allowedHosts: string[]
  corsOrigins: string[]
  databaseUrl: string
  databaseReadUrl: string | undefined
  queueUrl: string
  cacheUrl: string
  cacheTtlMs: number
  contentMaxBytes: number
  queueCapacity: number
  eventsRetentionMs: number
  eventsRetentionBytes: number
  workerBatch: number
  workerConcurrency: number
  workerMaxAttempts: number
  workerPort: number | undefined
  requestsPerSecond: number | undefined
  streamsPerClient: number | undefined
  maxConnections: number
  introspection: boolean
  /** undefined: nothing is traced. */
  traces:
    | { endpoint: string; headers: string | undefined; serviceName: string; sampler: string; ratio: number }
    | undefined
  /** The documents that may be sent; undefined: any. */
  operations: ReadonlySet<string> | undefined
  /** NODE_ENV=production */
  production: boolean
  /** What the operator should know, though it does not stop the start. */
  notes: string[]
  /** Texts that may not stand in a log. */
  secrets: string[]
}

/** What is wrong with the settings, one line a problem. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  constructor(problems: readonly string[]) {
    super(`Invalid configuration:\n${problems.map((p) => `  - ${p}`).join('\n')}`)
  }
}

type Env = Record<string, string | undefined>

/** Settings from the environment, and from `.env` where the environment is silent. Throws ConfigError. */
export function readConfig(env: Env = process.env, given?: Env): Config {
  const { values: file, problems } = given ? { values: given, problems: [] } : readEnvFile('.env', isKnown)
  const production = (env.NODE_ENV || file.NODE_ENV) === 'production'
  const notes = checkNames({ env, file, settings: names, secrets }, problems)
  // A setting that is there and empty is one left out: that is how compose files and shells say it.
  const chosen = Object.fromEntries(
    names.flatMap((name) => {
      const own = isServiceAddress(name, env[name]) ? { ...env, [name]: undefined } : env
      const value = valueIn(own, name, 'the environment', problems) ?? valueIn(file, name, '.env', problems)
      return value === undefined ? [] : [[name, value]]
    }),
  )
  const result = settings.safeParse(chosen)
  for (const issue of result.error?.issues ?? []) problems.push(`${String(issue.path[0])} ${issue.message}`)
  const s = result.data
  const authenticated = s?.AUTH_JWT_SECRET !== undefined || s?.AUTH_JWKS_URL !== undefined
  if (s && !isLoopback(s.HOST) && !authenticated && s.AUTH !== 'none') {
    problems.push(
      `HOST=${s.HOST} can be reached from other machines, and no authentication is set: set AUTH_JWT_SECRET or AUTH_JWKS_URL, use HOST=127.0.0.1, or say AUTH=none if everybody may read and write`,
    )
  }
  if (authenticated && s?.AUTH === 'none') {
    problems.push('AUTH=none and AUTH_JWT_SECRET or AUTH_JWKS_URL contradict each other: leave one of them out')
  }
  if (s?.AUTH_JWT_SECRET && s.AUTH_JWKS_URL) {
    problems.push('AUTH_JWT_SECRET and AUTH_JWKS_URL are two ways to check a token: leave one of them out')
  }
  for (const name of ['AUTH_ISSUER', 'AUTH_AUDIENCE'] as const) {
    if (s?.[name] !== undefined && !authenticated) {
      problems.push(
        `${name} checks tokens, and no token is asked for: set AUTH_JWT_SECRET or AUTH_JWKS_URL, or leave it out`,
      )
    }
  }
  // Keys of an issuer sign tokens for others, too; only the audience says that one is for us.
  if (s?.AUTH_JWKS_URL && !s.AUTH_AUDIENCE) problems.push('AUTH_JWKS_URL needs AUTH_AUDIENCE')
  if (s?.DATABASE_READ_URL && !s.DATABASE_URL.startsWith('mysql:')) {
    problems.push(
      'DATABASE_READ_URL names a replica, which DATABASE_URL=file:… cannot have: leave it out, or use mysql://… for both',
    )
  }
  for (const name of ['DATABASE_URL', 'DATABASE_READ_URL'] as const) {
    const text = s?.[name]
    if (text?.startsWith('mysql:') && !/^\/[^/]+$/.test(new URL(text).pathname)) {
      problems.push(`${name} must name one database behind the host, as in mysql://HOST:3306/spillway`)
    }
  }
  if (s && isSameFile(s.DATABASE_URL, s.QUEUE_URL)) {
    problems.push('DATABASE_URL and QUEUE_URL name the same file: the store and the queue need one each')
  }
  const operations = readOperations(chosen.PERSISTED_OPERATIONS, problems)
  if (problems.length > 0 || !s) throw new ConfigError(problems)
  return {
    host: s.HOST,
    port: s.PORT,
    auth: { secret: s.AUTH_JWT_SECRET, jwksUrl: s.AUTH_JWKS_URL, issuer: s.AUTH_ISSUER, audience: s.AUTH_AUDIENCE },
    allowedHosts:
      s.ALLOWED_HOSTS.length > 0 || authenticated || !isLoopback(s.HOST) ? s.ALLOWED_HOSTS : ownNames(s.HOST),
    corsOrigins: s.CORS_ORIGINS,
    databaseUrl: s.DATABASE_URL,
    databaseReadUrl: s.DATABASE_READ_URL,
    queueUrl: s.QUEUE_URL,
    cacheUrl: s.CACHE_URL,
    cacheTtlMs: s.CACHE_TTL_MS,
    contentMaxBytes: s.CONTENT_MAX_BYTES,
    queueCapacity: s.QUEUE_CAPACITY,
    eventsRetentionMs: s.EVENTS_RETENTION_MS,
    eventsRetentionBytes: s.EVENTS_RETENTION_BYTES,
    workerBatch: s.WORKER_BATCH,
    workerConcurrency: s.WORKER_CONCURRENCY,
    workerMaxAttempts: s.WORKER_MAX_ATTEMPTS,
    workerPort: s.WORKER_PORT,
    requestsPerSecond: s.RATE_LIMIT,
    streamsPerClient: s.STREAM_LIMIT,
    maxConnections: s.MAX_CONNECTIONS,
    introspection: s.INTROSPECTION ? s.INTROSPECTION === 'on' : !production,
    traces: s.OTEL_EXPORTER_OTLP_ENDPOINT
      ? {
          endpoint: s.OTEL_EXPORTER_OTLP_ENDPOINT,
          headers: s.OTEL_EXPORTER_OTLP_HEADERS,
          serviceName: s.OTEL_SERVICE_NAME,
          sampler: s.OTEL_TRACES_SAMPLER,
          ratio: s.OTEL_TRACES_SAMPLER_ARG,
        }
      : undefined,
    operations,
    production,
    notes,
    secrets: secretsOf(
      [s.DATABASE_URL, s.DATABASE_READ_URL, s.QUEUE_URL, s.CACHE_URL],
      [s.AUTH_JWT_SECRET, ...headerValues(s.OTEL_EXPORTER_OTLP_HEADERS)],
    ),
  }
}

/** The text of .env.example; a test compares it with the file. `npm run docs` writes it. */
export function envExample(): string {
  const lines = Object.entries(settings.shape).map(([name, schema]) => {
    const fallback = schema.safeParse(undefined).data
    return `# ${schema.description}\n# ${name}=${fallback ?? ''}\n`
  })
  return `# Spillway's settings, each with its default. Copy this file to .env and take the # off what you change;\n# the environment wins over .env. A setting that is malformed or misspelt stops the start.\n# ${secrets.join(', ')} may be read from files:\n# NAME_FILE=path in place of NAME. An empty file stops the start.\n\n${lines.join('\n')}`
}

/** The value that one source gives, in NAME or in the file that NAME_FILE names; undefined: it gives none. Neither may be blank, which would
 *  turn off what the setting asks for. */
function valueIn(source: Env, name: string, where: string, problems: string[]): string | undefined {
  const given = source[name] || undefined
  const path = (secrets.includes(name) && source[`${name}_FILE`]) || undefined
  if (given !== undefined && path !== undefined) {
    problems.push(`${name} and ${name}_FILE are both set in ${where}: leave one of them out`)
  }
  if (given !== undefined) {
    const value = given.trim()
    if (value === '') problems.push(`${name} is blank: give it a value, or leave it out`)
    return value || undefined
  }
  if (path === undefined) return undefined
  const read = readTextFile(path)
  const value = 'text' in read ? read.text.trim() : ''
  if (value === '') {
    const problem =
      'problem' in read ? `a file that ${read.problem}` : 'an empty file: write the value into it, or leave it out'
    problems.push(`${name}_FILE names ${problem}`)
  }
  return value || undefined
}

function headerValues(headers: string | undefined): string[] {
  const written = (headers ?? '').split(',').map((header) => header.slice(header.indexOf('=') + 1).trim())
  return written.flatMap((value) => [value, decodeURIComponent(value)])
}

/** Against DNS rebinding: nobody means this machine's loopback by another name. */
const ownNames = (host: string) => [...new Set(['localhost', '127.0.0.1', '::1', host])]

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}
