/**
 * Every setting, once, and the only reader of the environment. A setting that is malformed or misspelt stops the start, with all problems
 * in one message, which never repeats a value that may hold a secret. Names that belong to other programs are noted and ignored.
 */
import { isIP } from 'node:net'
import { availableParallelism } from 'node:os'
import * as z from 'zod'
import { checkNames, isServiceAddress } from './config/names.ts'
import { readEnvFile, valueIn } from './config/sources.ts'
import { isSameFile, secretsOf } from './config/urls.ts'
import {
  claims,
  headers,
  headerValues,
  host,
  hostList,
  maxProcesses,
  number,
  numberOr,
  operations,
  originList,
  processes,
  ratio,
  url,
} from './config/values.ts'
import { redisProtocols } from './redis/address.ts'

interface Setting<T extends z.ZodType> {
  name: string
  type: T
  description: string
  /** NAME_FILE may name a file to read the value from: orchestrators mount secrets as files. */
  secret: boolean
}

const setting = <T extends z.ZodType>(name: string, type: T, secret = false) => ({
  describe: (description: string): Setting<T> => ({ name, type, description, secret }),
})
const secret = <T extends z.ZodType>(name: string, type: T) => setting(name, type, true)

const samplers = [
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
  'always_on',
  'always_off',
  'traceidratio',
] as const
const redisForms = 'redis://…, redis+sentinel://… or redis+cluster://… (with TLS, rediss…://)'
const database = 'mysql://USER:PASSWORD@HOST:PORT/DATABASE'
const severalHosts = 'Several hosts, as in HOST1:PORT,HOST2:PORT'

/** In the order of .env.example. */
const settings = {
  host: setting('HOST', host.prefault('127.0.0.1')).describe(
    'The address to listen on. Any other than loopback needs authentication, or AUTH=none.',
  ),
  port: setting('PORT', numberOr(8080, 0, 65535)).describe('The port to listen on; 0: any free one.'),
  apiProcesses: setting('API_PROCESSES', processes.prefault('1')).describe(
    'API processes that share PORT on this machine: 1 to 256, or auto: one a core. With an embedded queue only 1; auto is 1.',
  ),
  openToAll: setting('AUTH', z.literal('none', { error: 'must be none, or left out' }).optional()).describe(
    'none: every client that can reach HOST may read and write.',
  ),
  jwtSecret: secret(
    'AUTH_JWT_SECRET',
    z
      .string()
      .refine((text) => Buffer.byteLength(text) >= 32, { error: 'must be at least 32 bytes' })
      .optional(),
  ).describe('Require a bearer token (JWT), signed with this secret (HS256, at least 32 bytes).'),
  jwksUrl: setting(
    'AUTH_JWKS_URL',
    url(['https:', 'http:'], 'https://…', { credentials: 'keys to check tokens with are public' }).optional(),
  ).describe('Require a bearer token (JWT), signed with one of the keys published here (RS, PS, ES, EdDSA).'),
  issuer: setting('AUTH_ISSUER', z.string().optional()).describe(
    "A token's required `iss`. Only with AUTH_JWT_SECRET or AUTH_JWKS_URL.",
  ),
  audience: setting('AUTH_AUDIENCE', z.string().optional()).describe(
    "A token's required `aud`, or one of them. Required with AUTH_JWKS_URL, and only with it or AUTH_JWT_SECRET.",
  ),
  devClaims: setting('AUTH_DEV_CLAIMS', claims.optional()).describe(
    'A JSON object, as in {"sub":"dev"}: the claims of every client without authentication. On loopback only.',
  ),
  allowedHosts: setting('ALLOWED_HOSTS', hostList).describe(
    'Host names to answer for, separated by commas. Left out: on loopback without authentication its own names, else all.',
  ),
  corsOrigins: setting('CORS_ORIGINS', originList).describe(
    'Origins whose pages may call this server, separated by commas, as in https://app.example.',
  ),
  requestsPerSecond: setting('RATE_LIMIT', number(1, 1_000_000).optional()).describe(
    'Requests a second that one token, or else one address, may make on one machine. Left out: no limit.',
  ),
  streamsPerClient: setting('STREAM_LIMIT', number(1, 1_000_000).optional()).describe(
    'Event streams and WebSockets that one token, or else one address, may open on one machine. Left out: no limit.',
  ),
  maxConnections: setting('MAX_CONNECTIONS', numberOr(15_000, 1, 1_000_000)).describe(
    'Connections to one machine, in equal parts to its API processes. A part takes as many open files (ulimit -n), and 600 more.',
  ),
  introspection: setting('INTROSPECTION', z.enum(['on', 'off'], { error: 'must be on or off' }).optional()).describe(
    'GraphiQL, and introspection of the schema: on or off. Left out: on, but off with NODE_ENV=production.',
  ),
  consoleSpike: setting(
    'CONSOLE_SPIKE',
    z.enum(['true', 'false'], { error: 'must be true or false' }).optional(),
  ).describe(
    'Whether the console offers Spike, a demonstration that writes thousands of rows for good. Left out: true, but false with NODE_ENV=production.',
  ),
  operations: setting('PERSISTED_OPERATIONS', operations.optional()).describe(
    'A JSON file with a list of documents, or an object of them: the server then refuses all others.',
  ),
  databaseUrl: secret(
    'DATABASE_URL',
    url(['file:', 'mysql:'], `file:PATH or ${database}`).default('file:./data/spillway.db'),
  ).describe(
    `The store: file:PATH (SQLite) or ${database} (MySQL 8, MariaDB 10.6 or newer). ${severalHosts}: the first that takes writes is used.`,
  ),
  databaseReadUrl: secret('DATABASE_READ_URL', url(['mysql:'], database).optional()).describe(
    `A replica to read pages of lists from, as old as it lags. Pages with savedCursor, and those of REST, come from the primary. ${severalHosts}: the first that answers is used.`,
  ),
  queueUrl: secret(
    'QUEUE_URL',
    url(['file:', ...redisProtocols], `file:PATH, ${redisForms}`).default('file:./data/queue.db'),
  ).describe(
    'The queue: file:PATH (embedded; the API runs the worker itself), redis://HOST:PORT, redis+sentinel://HOST:26379,HOST:26379/MASTER ' +
      'or redis+cluster://HOST:PORT,HOST:PORT; with TLS rediss://, rediss+sentinel:// or rediss+cluster://. ?prefix=NAME: of all its keys.',
  ),
  eventsUrl: secret('EVENTS_URL', url(['file:', ...redisProtocols], redisForms).optional()).describe(
    'A Redis of its own for the events log, in the forms of QUEUE_URL. Left out: as QUEUE_URL.',
  ),
  queueShards: setting('QUEUE_SHARDS', numberOr(1, 1, 64)).describe(
    'Parts of the queue on Redis, which a cluster spreads over its nodes; the same for every process. It may change: former parts are drained.',
  ),
  cacheUrl: secret(
    'CACHE_URL',
    url(['memory:', ...redisProtocols], `memory:, ${redisForms}`).default('memory:'),
  ).describe('The cache: memory:, or an instance of its own that may evict, in the forms of QUEUE_URL.'),
  cacheTtlMs: setting('CACHE_TTL_MS', numberOr(10_000, 1, 86_400_000)).describe(
    'How long a page of a list may be cached, in milliseconds.',
  ),
  contentMaxBytes: setting('CONTENT_MAX_BYTES', numberOr(65_536, 1, 1_048_576)).describe(
    'The longest text, JSON or Bytes of a column that has no maxBytes of its own, in bytes of UTF-8.',
  ),
  queueCapacity: setting('QUEUE_CAPACITY', numberOr(1_000_000, 1, 100_000_000)).describe(
    'Messages in the queue from which on saves are refused with QUEUE_FULL; each of QUEUE_SHARDS has its part.',
  ),
  queueReplicas: setting('QUEUE_REPLICAS', numberOr(0, 0, 100)).describe(
    "Replicas of the queue's Redis that must have a save before it is acknowledged.",
  ),
  eventsRetentionMs: setting('EVENTS_RETENTION_MS', numberOr(3_600_000, 1_000, 31_536_000_000)).describe(
    'How long a cursor stays valid, in milliseconds …',
  ),
  eventsRetentionBytes: setting('EVENTS_RETENTION_BYTES', numberOr(268_435_456, 1_048_576, 1_099_511_627_776)).describe(
    '… and up to what size of the events log, in bytes.',
  ),
  workerBatch: setting('WORKER_BATCH', numberOr(1_000, 1, 10_000)).describe('Rows per statement.'),
  workerConcurrency: setting('WORKER_CONCURRENCY', numberOr(2, 1, 64)).describe(
    'Statements at once, per worker process.',
  ),
  workerPort: setting('WORKER_PORT', number(0, 65535).optional()).describe(
    'Where a worker answers /livez, /readyz and /metrics, on HOST. Left out: nowhere.',
  ),
  workerMaxAttempts: setting('WORKER_MAX_ATTEMPTS', numberOr(5, 1, 1_000)).describe(
    'Attempts for a message that fails alone, before it becomes a dead letter.',
  ),
  tracesEndpoint: setting(
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    url(['http:', 'https:'], 'http://HOST:PORT or https://HOST:PORT', {
      credentials: 'use OTEL_EXPORTER_OTLP_HEADERS',
    }).optional(),
  ).describe('Where traces go, as OTLP over HTTP, to /v1/traces below it. Left out: nothing is traced.'),
  tracesHeaders: secret('OTEL_EXPORTER_OTLP_HEADERS', headers.optional()).describe(
    'Headers to send with traces: NAME=VALUE pairs, separated by commas; a comma in a value is %2C.',
  ),
  serviceName: setting('OTEL_SERVICE_NAME', z.string().default('spillway')).describe('The service name in traces.'),
  sampler: setting(
    'OTEL_TRACES_SAMPLER',
    z.enum(samplers, { error: `must be one of ${samplers.join(', ')}` }).default('parentbased_always_on'),
  ).describe(`Which saves are traced: ${samplers.join(', ')}.`),
  samplerRatio: setting('OTEL_TRACES_SAMPLER_ARG', ratio.prefault('1')).describe(
    'Of a sampler by ratio: the part of the traces, from 0 to 1.',
  ),
}

type Settings = { [Field in keyof typeof settings]: z.output<(typeof settings)[Field]['type']> }

/** Inputs of one saveMany, all of which one shard must have room for. */
const itemsOfSaveMany = 1_000

/** What must hold between settings: each check returns what is wrong, if anything is. */
const checks: ((s: Settings) => string | false | undefined)[] = [
  (s) =>
    !isLoopback(s.host) &&
    !authenticates(s) &&
    !s.openToAll &&
    `HOST=${s.host} can be reached from other machines, and no authentication is set: set AUTH_JWT_SECRET or AUTH_JWKS_URL, use HOST=127.0.0.1, or set AUTH=none if every client may read and write`,
  (s) =>
    authenticates(s) &&
    s.openToAll &&
    'AUTH=none and AUTH_JWT_SECRET or AUTH_JWKS_URL contradict each other: leave one of them out',
  (s) =>
    s.jwtSecret &&
    s.jwksUrl &&
    'AUTH_JWT_SECRET and AUTH_JWKS_URL are two ways to check a token: leave one of them out',
  ...(['issuer', 'audience'] as const).map((field) => (s: Settings) => {
    const advice = 'checks tokens, and no token is asked for: set AUTH_JWT_SECRET or AUTH_JWKS_URL, or leave it out'
    return s[field] !== undefined && !authenticates(s) && `${settings[field].name} ${advice}`
  }),
  (s) =>
    s.jwksUrl &&
    !s.audience &&
    'AUTH_JWKS_URL needs AUTH_AUDIENCE, because its keys sign tokens for other services, too: set it to the `aud` of this one',
  (s) =>
    s.devClaims &&
    authenticates(s) &&
    'AUTH_DEV_CLAIMS contradicts AUTH_JWT_SECRET and AUTH_JWKS_URL, because claims then come from tokens: leave it out',
  (s) =>
    s.devClaims &&
    !isLoopback(s.host) &&
    `AUTH_DEV_CLAIMS gives the same claims to every client, and HOST=${s.host} can be reached from other machines: use HOST=127.0.0.1, or leave AUTH_DEV_CLAIMS out and set AUTH_JWT_SECRET or AUTH_JWKS_URL`,
  (s) =>
    s.databaseReadUrl &&
    !s.databaseUrl.startsWith('mysql:') &&
    'DATABASE_READ_URL names a replica, which DATABASE_URL=file:… cannot have: leave it out, or use mysql://… for both',
  (s) =>
    typeof s.apiProcesses === 'number' &&
    s.apiProcesses > 1 &&
    isFile(s.queueUrl) &&
    `API_PROCESSES=${s.apiProcesses} needs a queue that processes share, and QUEUE_URL=file:… is embedded in one: set QUEUE_URL=redis://…, or leave API_PROCESSES out`,
  (s) =>
    s.queueShards > 1 &&
    s.queueCapacity < s.queueShards * itemsOfSaveMany &&
    `QUEUE_CAPACITY=${s.queueCapacity} is split over QUEUE_SHARDS=${s.queueShards}, and each needs room for one saveMany: set it to at least ${s.queueShards * itemsOfSaveMany}`,
  (s) =>
    s.queueShards > 1 &&
    isFile(s.queueUrl) &&
    `QUEUE_SHARDS=${s.queueShards} needs a queue on Redis, and QUEUE_URL=file:… is embedded: leave QUEUE_SHARDS out, or set QUEUE_URL=redis://…`,
  (s) =>
    s.eventsUrl &&
    s.queueUrl.startsWith('file:') &&
    !isSameFile(s.eventsUrl, s.queueUrl) &&
    'EVENTS_URL and QUEUE_URL=file:… do not fit together, because the embedded queue has its events log in its own file: leave EVENTS_URL out, or use redis://… for both',
  (s) =>
    s.eventsUrl?.startsWith('file:') &&
    !s.queueUrl.startsWith('file:') &&
    'EVENTS_URL=file:… and QUEUE_URL=redis… are of different kinds: leave EVENTS_URL out, or name a Redis as in redis://HOST:PORT',
  (s) =>
    s.queueReplicas > 0 &&
    isFile(s.queueUrl) &&
    `QUEUE_REPLICAS=${s.queueReplicas} asks for replicas, which QUEUE_URL=file:… cannot have: leave it out, or use redis://…`,
  (s) =>
    isSameFile(s.databaseUrl, s.queueUrl) &&
    'DATABASE_URL and QUEUE_URL name the same file: the store and the queue need one each',
]

/** The settings as the program uses them. */
function resolve(s: Settings, production: boolean) {
  const { openToAll, jwtSecret, jwksUrl, issuer, audience, devClaims, ...plain } = s
  const { tracesEndpoint: endpoint, tracesHeaders, serviceName, sampler, samplerRatio, ...rest } = plain
  const namesAll = s.allowedHosts.length > 0 || authenticates(s) || !isLoopback(s.host)
  return {
    ...rest,
    eventsUrl: s.eventsUrl ?? s.queueUrl,
    auth: { secret: jwtSecret, jwksUrl, issuer, audience, devClaims },
    /** Empty: all. */
    allowedHosts: namesAll ? s.allowedHosts : loopbackNames(s.host),
    apiProcesses: s.apiProcesses === 'auto' ? (isFile(s.queueUrl) ? 1 : cores()) : s.apiProcesses,
    introspection: s.introspection ? s.introspection === 'on' : !production,
    consoleSpike: s.consoleSpike ? s.consoleSpike === 'true' : !production,
    traces: endpoint ? { endpoint, headers: tracesHeaders, serviceName, sampler, ratio: samplerRatio } : undefined,
    production,
    /** Texts that must not appear in a log. */
    secrets: secretsOf(
      [s.databaseUrl, s.databaseReadUrl, s.queueUrl, s.eventsUrl, s.cacheUrl],
      [jwtSecret, ...headerValues(tracesHeaders)],
    ),
  }
}

export interface Config extends ReturnType<typeof resolve> {
  /** What the operator should know, though it does not stop the start. */
  notes: string[]
}

const isFile = (address: string) => address.startsWith('file:')

/** Of which this process may use all, and no more than API_PROCESSES may be. */
const cores = () => Math.min(availableParallelism(), maxProcesses)

const authenticates = (s: Settings) => s.jwtSecret !== undefined || s.jwksUrl !== undefined

const isLoopback = (name: string) =>
  name === 'localhost' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'))

/** Against DNS rebinding: on loopback, requests for any other host name are refused. */
const loopbackNames = (name: string) => [...new Set(['localhost', '127.0.0.1', '::1', name])]

const all: [keyof Settings, Setting<z.ZodType>][] = Object.entries(settings) as never
const names = all.map(([, { name }]) => name)
const secrets = all.flatMap(([, { name, secret }]) => (secret ? name : []))
const isKnown = (name: string) => names.includes(name) || secrets.some((secret) => name === `${secret}_FILE`)

/** What is wrong with the settings, one line a problem. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  constructor(problems: readonly string[]) {
    super(`Invalid configuration:\n${problems.map((p) => `  - ${p}`).join('\n')}`)
  }
}

type Env = Record<string, string | undefined>

/** The settings from the environment, and from `.env` where the environment has none. Throws ConfigError. */
export function readConfig(env: Env = process.env, given?: Env): Config {
  const { values: file, problems } = given ? { values: given, problems: [] } : readEnvFile('.env', isKnown)
  const notes = checkNames({ env, file, settings: names, secrets }, problems)
  const parsed = all.map(([field, { name, type, secret }]) => {
    const own = isServiceAddress(name, env[name]) ? { ...env, [name]: undefined } : env
    const value =
      valueIn({ variables: own, where: 'the environment', name, secret }, problems) ??
      valueIn({ variables: file, where: '.env', name, secret }, problems)
    const { data, error } = type.safeParse(value)
    for (const issue of error?.issues ?? []) problems.push(`${name} ${issue.message}`)
    return error ? undefined : ([field, data] as const)
  })
  const valid = parsed.filter((each) => each !== undefined)
  if (valid.length < parsed.length) throw new ConfigError(problems)
  const s = Object.fromEntries(valid) as unknown as Settings
  problems.push(...checks.flatMap((check) => check(s) || []))
  if (problems.length > 0) throw new ConfigError(problems)
  return { ...resolve(s, (env.NODE_ENV || file.NODE_ENV) === 'production'), notes }
}

/** The text of .env.example; `npm run docs` writes it, and a test compares it with the file. */
export function envExample(): string {
  const head = [
    "Spillway's settings, each with its default. Copy this file to .env and remove the # from the lines that you change;",
    'the environment takes precedence over .env. A setting that is malformed or misspelt stops the start.',
    `${secrets.join(', ')} may be read from files:`,
    'NAME_FILE=path in place of NAME. An empty file stops the start.',
  ]
  const lines = all.map(
    ([, { name, type, description }]) => `# ${description}\n# ${name}=${type.safeParse(undefined).data ?? ''}\n`,
  )
  return `${head.map((line) => `# ${line}\n`).join('')}\n${lines.join('\n')}`
}
