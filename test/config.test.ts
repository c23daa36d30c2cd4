import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseEnvFile, readEnvFile } from '../src/config/sources.ts'
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

const secretNames = [
  'DATABASE_URL',
  'DATABASE_READ_URL',
  'QUEUE_URL',
  'EVENTS_URL',
  'CACHE_URL',
  'AUTH_JWT_SECRET',
  'OTEL_EXPORTER_OTLP_HEADERS',
]

describe('readConfig', () => {
  test('returns the documented defaults', () => {
    expect(readConfig({}, {})).toEqual({
      host: '127.0.0.1',
      port: 8080,
      apiProcesses: 1,
      auth: { secret: undefined, jwksUrl: undefined, issuer: undefined, audience: undefined, devClaims: undefined },
      allowedHosts: ['localhost', '127.0.0.1', '::1'],
      corsOrigins: [],
      databaseUrl: 'file:./data/spillway.db',
      databaseReadUrl: undefined,
      queueUrl: 'file:./data/queue.db',
      queueShards: 1,
      eventsUrl: 'file:./data/queue.db',
      cacheUrl: 'memory:',
      cacheTtlMs: 10_000,
      contentMaxBytes: 65_536,
      queueCapacity: 1_000_000,
      queueReplicas: 0,
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
      consoleSpike: true,
      traces: undefined,
      operations: undefined,
      production: false,
      notes: [],
      secrets: [],
    })
  })

  test('prefers the environment to .env, and counts an empty setting as left out', () => {
    const config = readConfig({ PORT: '1', WORKER_BATCH: '' }, { PORT: '2', CACHE_TTL_MS: '500', WORKER_BATCH: '7' })
    expect(config).toMatchObject({ port: 1, cacheTtlMs: 500, workerBatch: 7 })
  })

  test('leaves the spike of the console out in production, unless CONSOLE_SPIKE says otherwise', () => {
    const spike = (env: Record<string, string>) => readConfig(env, {}).consoleSpike
    expect(spike({ NODE_ENV: 'production' })).toBe(false)
    expect(spike({ NODE_ENV: 'production', CONSOLE_SPIKE: 'true' })).toBe(true)
    expect(spike({ CONSOLE_SPIKE: 'false' })).toBe(false)
    expect(problems({ CONSOLE_SPIKE: 'yes' })).toContain('CONSOLE_SPIKE must be true or false')
  })

  test('reports every problem in one message', () => {
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

  test('returns the endpoint, sampler and headers of traces', () => {
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

  test('refuses a misspelt name and suggests the right one', () => {
    const misspelt = {
      QUEUE_CAPACTIY: 'QUEUE_CAPACITY',
      DATABSE_URL: 'DATABASE_URL',
      DATABASE_URLS: 'DATABASE_URL',
      database_url: 'DATABASE_URL',
      Queue_Url: 'QUEUE_URL',
      CACHE_TTL: 'CACHE_URL or CACHE_TTL_MS',
      DATABASE_URL_FIEL: 'DATABASE_URL_FILE',
      OTEL_EXPORTER_OTLP_ENDPOINTS: 'OTEL_EXPORTER_OTLP_ENDPOINT',
      PROT: 'PORT',
      PORTT: 'PORT',
      HHOST: 'HOST',
      port: 'PORT',
    }
    for (const [name, right] of Object.entries(misspelt)) {
      expect(problems({ [name]: '10' })).toContain(`${name} is no setting of Spillway; did you mean ${right}?`)
      expect(problems({}, { [name]: '10' })).toContain(
        `${name} in .env is no setting of Spillway; did you mean ${right}?`,
      )
    }
  })

  test('ignores the names that other programs put into the environment or into a shared .env', () => {
    const others = {
      HOSTNAME: 'x',
      HOME: '/root',
      PATH: '/bin',
      POST: 'x',
      HOSTS: 'x',
      POSTGRES_USER: 'x',
      MYSQL_ROOT_PASSWORD: 'x',
      REDIS_URL: 'x',
      COMPOSE_PROJECT_NAME: 'x',
      NODE_OPTIONS: '',
      QUEUE_SERVICE_HOST: '10.0.0.1',
      WORKER_PORT_80_TCP: 'tcp://10.0.0.1:80',
      WORKER_PORT: 'tcp://10.0.0.1:80',
      QUEUE_PORT: 'tcp://…',
      DATABASE_POOL_SIZE: '5',
      DATABASE_HOST: 'db',
      QUEUE_CONNECTION: 'sync',
      CACHE_DRIVER: 'file',
      AUTH_MODE: 'x',
      WORKER_COUNT: '4',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
      OTEL_RESOURCE_ATTRIBUTES: 'a=b',
      PORT_FILE: 'x',
    }
    const { WORKER_PORT, ...shared } = others
    expect(readConfig(others, {}).workerPort).toBeUndefined()
    expect(readConfig({ WORKER_PORT }, {}).workerPort).toBeUndefined()
    const noted = (names: string[]) => expect.stringMatching(new RegExp(names.join(', ')))
    expect(readConfig({}, shared).notes).toEqual([noted(['^\\.env has names.*: HOSTNAME', 'HOME', 'PATH', 'POST'])])
    expect(readConfig(others, {}).notes).toEqual([
      noted(['^the environment has names.*: DATABASE_POOL_SIZE', 'DATABASE_HOST', 'QUEUE_CONNECTION']),
    ])
    for (const name of ['OTEL_EXPORTER_OTLP_PROTOCOL', 'WORKER_PORT'])
      expect(readConfig(others, {}).notes[0]).toContain(name)
    expect(readConfig({ HOME: 'x', REDIS_URL: 'x' }, {}).notes).toEqual([])
    // What parseEnv takes for a name, and is none.
    expect(readConfig({}, { 'postgres://u:hunter2@h?x': 'y' }).notes.join()).not.toContain('hunter2')
  })

  test('takes the scheme of a URL in any case', () => {
    const { databaseUrl, queueUrl, cacheUrl } = readConfig(
      { DATABASE_URL: 'FILE:./X.db', QUEUE_URL: 'File:./q.db', CACHE_URL: 'MEMORY:' },
      {},
    )
    expect([databaseUrl, queueUrl, cacheUrl]).toEqual(['file:./X.db', 'file:./q.db', 'memory:'])
  })

  test('reads API_PROCESSES: 1 to 256, or auto for one a core, which is 1 where the queue is embedded', () => {
    const onRedis = { QUEUE_URL: 'redis://127.0.0.1:6379' }
    expect(readConfig({ ...onRedis, API_PROCESSES: '256' }, {}).apiProcesses).toBe(256)
    expect(readConfig({ ...onRedis, API_PROCESSES: 'auto' }, {}).apiProcesses).toBe(availableParallelism())
    expect(readConfig({ API_PROCESSES: 'auto' }, {}).apiProcesses).toBe(1)
    expect(readConfig({ API_PROCESSES: '1' }, {}).apiProcesses).toBe(1)
    for (const wrong of ['0', '-1', '1.5', '257', 'x', 'AUTO', '2 processes']) {
      const message = problems({ ...onRedis, API_PROCESSES: wrong })
      expect(message, wrong).toContain('API_PROCESSES must be a whole number from 1 to 256, or auto')
    }
    expect(problems({ API_PROCESSES: '2' })).toBe(
      'Invalid configuration:\n  - API_PROCESSES=2 needs a queue that processes share, and QUEUE_URL=file:… is embedded in one: set QUEUE_URL=redis://…, or leave API_PROCESSES out',
    )
  })

  test('refuses several shards of an embedded queue, and numbers of shards that are none', () => {
    expect(problems({ QUEUE_SHARDS: '4' })).toContain('QUEUE_SHARDS=4 needs a queue on Redis')
    for (const shards of ['0', '65', '1.5', 'many'])
      expect(problems({ QUEUE_URL: 'redis://localhost', QUEUE_SHARDS: shards })).toContain('QUEUE_SHARDS must')
    expect(readConfig({ QUEUE_URL: 'redis://localhost', QUEUE_SHARDS: '64' }, {}).queueShards).toBe(64)
    expect(problems({ QUEUE_URL: 'redis://localhost', QUEUE_SHARDS: '4', QUEUE_CAPACITY: '3999' })).toContain(
      'set it to at least 4000',
    )
  })

  test('refuses the same file for store and queue', () => {
    expect(problems({ DATABASE_URL: 'file:./x.db', QUEUE_URL: 'FILE:./x.db' })).toContain('name the same file')
    expect(problems({ DATABASE_URL: 'file:./x.db', QUEUE_URL: 'file:./x.db' })).toContain('name the same file')
    expect(problems({ DATABASE_URL: 'file:data/../x.db', QUEUE_URL: 'file:./x.db' })).toContain('name the same file')
  })

  test('refuses replicas of an embedded queue, and takes QUEUE_REPLICAS from 0 to 100', () => {
    expect(problems({ QUEUE_REPLICAS: '1' })).toContain(
      'QUEUE_REPLICAS=1 asks for replicas, which QUEUE_URL=file:… cannot have: leave it out, or use redis://…',
    )
    expect(readConfig({ QUEUE_REPLICAS: '0' }, {}).queueReplicas).toBe(0)
    expect(readConfig({ QUEUE_REPLICAS: '2', QUEUE_URL: 'redis://h' }, {}).queueReplicas).toBe(2)
    for (const QUEUE_REPLICAS of ['-1', '101', '1.5', 'all'])
      expect(problems({ QUEUE_REPLICAS, QUEUE_URL: 'redis://h' })).toContain('QUEUE_REPLICAS')
  })

  test('never repeats a password', () => {
    expect(
      problems({
        DATABASE_URL: 'mysql//root:hunter2@db/x',
        QUEUE_URL: 'redsi://:hunter2@x',
        CACHE_URL: 'redis://:hunter2@[',
      }),
    ).not.toContain('hunter2')
  })

  test('refuses a URL that would be parsed differently from what it looks like, without repeating it', () => {
    const refused: Record<string, string[]> = {
      DATABASE_URL: [
        'mysql://root:hunter%2@db/x',
        'mysql://root:100%hunter2@db/x',
        'mysql://root:%ffhunter2@db/x',
        'mysql://root:12/hunter2@db/x',
        'mysql://root:12?hunter2@db/x',
        'mysql://root:12#hunter2@db/x',
        'mysql://root:hunter2@db',
        'mysql://root:hunter2@db/x/y',
        'mysql://root:hun\tter2@db/x',
        'mysql://root:hunter2 @db/x',
        'mysql://root:hunter2@db:99999/x',
        'mysql:hunter2',
        'file:./x.db?key=hunter2',
        'file:./x.db#hunter2',
        'file://hunter2/x.db',
        'file:///x%hunter2',
        'file::memory:',
        'file:',
      ],
      DATABASE_READ_URL: ['mysql://root:12/hunter2@db/x', 'mysql://root:hunter2@db'],
      QUEUE_URL: [
        'redis://:hunter%2@h',
        'redis://:1/hunter2@h',
        'redis://h#hunter2',
        'file:x?hunter2',
        'redis:hunter2',
      ],
      CACHE_URL: ['redis://:hunter%2@h', 'memory:hunter2', 'rediss://'],
      AUTH_JWKS_URL: ['https://me:hunter2@idp/keys', 'https://me@idp/keys', 'https://idp/#hunter2', 'hunter2'],
      OTEL_EXPORTER_OTLP_ENDPOINT: ['https://me:hunter2@otel', 'http://otel/%hunter2', 'hunter2:4318'],
    }
    for (const [name, values] of Object.entries(refused)) {
      for (const value of values) {
        const message = problems({ [name]: value, AUTH_AUDIENCE: 'x' })
        expect(message, value).toMatch(new RegExp(`- ${name} (must|has|is) `))
        expect(message).not.toContain('hunter2')
      }
    }
    expect(problems({ DATABASE_URL: 'mysql://root:50%@db/x' })).toContain('% is %25')
    const upper = readConfig({ DATABASE_URL: 'FILE:./X.db', QUEUE_URL: 'REDIS://h', CACHE_URL: 'Memory:' }, {})
    expect(upper).toMatchObject({ databaseUrl: 'file:./X.db', queueUrl: 'redis://h', cacheUrl: 'memory:' })
    for (const DATABASE_URL of [
      'mysql://root:p%40%2F%25@db:3306/x?ssl=true',
      'mysql://a:p@ss@db/x',
      'file:///tmp/a%20b.db',
    ])
      expect(readConfig({ DATABASE_URL }, {}).databaseUrl).toBe(DATABASE_URL)
  })

  test('takes several hosts of a database', () => {
    for (const url of [
      'mysql://root:hunter2@a:3306,b/x',
      'mysql://root@[::1]:3306,[2001:db8::1],10.0.0.1:3307/x?ssl=true',
      'mysql://a:p%40%2C%2F@h_1.example,h-2.example/x',
      'mysql://a%2Cb:c,d@h,i/x',
    ]) {
      expect(readConfig({ DATABASE_URL: url, DATABASE_READ_URL: url }, {})).toMatchObject({
        databaseUrl: url,
        databaseReadUrl: url,
      })
    }
    expect(readConfig({ DATABASE_URL: 'mysql://root:hunter%2C2@a:3306,b/x' }, {}).secrets).toEqual([
      'hunter%2C2',
      'hunter,2',
    ])
  })

  test.each([
    ['mysql://root:hunter2@a,/x', 'number 2 is blank'],
    ['mysql://root:hunter2@,a/x', 'number 1 is blank'],
    ['mysql://root:hunter2@a,,b/x', 'number 2 is blank'],
    ['mysql://root:hunter2@a,:3306/x', 'number 2 is blank'],
    ['mysql://root:hunter2@/x', 'a host that is blank'],
    ['mysql://root:hunter2@a:3306,b,A/x', 'numbers 1 and 3 are the same'],
    ['mysql://root:hunter2@[::1],[0:0:0:0:0:0:0:1]:3306/x', 'numbers 1 and 2 are the same'],
    ['mysql://root:hunter2@a:33O6,b/x', 'number 1 is not followed by a port'],
    ['mysql://root:hunter2@a,b:0/x', 'number 2 is not followed by a port'],
    ['mysql://root:hunter2@a,b:65536/x', 'number 2 is not followed by a port'],
    ['mysql://root:hunter2@a,b:/x', 'number 2 is not followed by a port'],
    ['mysql://root:hunter2@a,b:1:2/x', 'number 2 is not followed by a port'],
    ['mysql://root:hunter2@::1,b/x', 'number 1 is blank'],
    ['mysql://root:hunter2@fe80::1,b/x', 'number 1 is not followed by a port'],
    ['mysql://root:hunter2@[fe80::x],b/x', 'number 1 has brackets and is no IPv6 address'],
    ['mysql://root:hunter2@[::1,b/x', 'number 1 is neither a name nor an address'],
    ['mysql://root:hunter2@a,b%20c/x', 'number 2 is neither a name nor an address'],
    ['mysql://root:hunter2@a, b/x', 'no spaces'],
    ['mysql://root:hunter2@a,root:hunter2@b/x', 'share one user and password'],
    ['mysql://root:hunter2@a/x,mysql://root:hunter2@b/x', 'wrong place'],
    ['mysql://root:hunter2@a/x,b/x', 'must name one database'],
    ['mysql://root:hunter2@a/x,b', 'a comma behind its hosts'],
    ['mysql://root:hunter2@a,b', 'must name one database'],
    ['mysql://root:hunter2@a,b/', 'must name one database'],
    ['mysql://root:hunter2@a,b/x?socket=/run/mysqld.sock', 'several hosts and the parameter socket'],
    ['mysql://root:hunter2@a,b/x?hunter2=1', 'not supported'],
    ['file:./hunter2.db,mysql://a/x', 'has a comma, and is one file'],
    ['file:./hunter2.db,./other.db', 'has a comma, and is one file'],
    ['file://hunter2,b/x.db', 'has a comma, and is one file'],
    ['mysql://a,b/x', undefined],
    ['mysql://a,u:hunter2@b/spillway', 'has a comma before its @'],
    ['mysql://a:3306,u:hunter2@b/spillway', 'has a comma before its @'],
  ])('a list of hosts is checked: %s', (DATABASE_URL, problem) => {
    if (problem === undefined) return expect(readConfig({ DATABASE_URL }, {}).databaseUrl).toBe(DATABASE_URL)
    const message = problems({ DATABASE_URL })
    expect(message).toContain(problem)
    expect(message.match(/- /g)).toHaveLength(1)
    if (!DATABASE_URL.includes('?hunter2')) expect(message).not.toContain('hunter2')
  })

  test('returns the texts that must not appear in a log', () => {
    const { secrets } = readConfig(
      {
        DATABASE_URL: 'mysql://root:hunter%2F2@db/x',
        QUEUE_URL: 'redis://:swordfish@h',
        CACHE_URL: 'redis://:short@h',
        AUTH_JWT_SECRET: 's'.repeat(40),
        OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20token',
      },
      {},
    )
    const kept = ['hunter%2F2', 'hunter/2', 'swordfish', 's'.repeat(40), 'Bearer%20token', 'Bearer token']
    expect(secrets.sort()).toEqual(kept.sort())
  })

  test('normalises ALLOWED_HOSTS to the form of a Host header, and refuses what has no such form', () => {
    const hosts = (ALLOWED_HOSTS: string) => readConfig({ ALLOWED_HOSTS }, {}).allowedHosts
    expect(hosts('App.Example, bücher.example,app.example., ::1,[2001:DB8:0::1] ,127.0.0.1,my_app,,')).toEqual([
      'app.example',
      'xn--bcher-kva.example',
      '::1',
      '2001:db8::1',
      '127.0.0.1',
      'my_app',
    ])
    const refused: [string, string][] = [
      ['app.example:8080', 'without a port'],
      ['[::1]:8080', 'without a port'],
      ['https://app.example', 'without https://'],
      ['*.example', 'must not have a *'],
      ['*', 'must not have a *'],
      ['app.example/path', 'must be a host name'],
      ['hunter2@app.example', 'must be a host name'],
      ['a b', 'must be a host name'],
      ['1.2.3.400', 'must be a host name'],
    ]
    for (const [item, says] of refused) {
      expect(problems({ ALLOWED_HOSTS: item })).toMatch(new RegExp(`ALLOWED_HOSTS .*${says.replace('*', '\\*')}`))
      expect(problems({ ALLOWED_HOSTS: `good.example,${item}` })).toContain('ALLOWED_HOSTS (item 2) must')
      expect(problems({ ALLOWED_HOSTS: item })).not.toContain('hunter2')
    }
  })

  test('refuses ALLOWED_HOSTS without an item, which would allow every host', () => {
    const open = { HOST: '0.0.0.0', AUTH: 'none' }
    for (const ALLOWED_HOSTS of [',', ' , ,'])
      for (const env of [{}, open]) expect(problems({ ...env, ALLOWED_HOSTS })).toContain('ALLOWED_HOSTS has no items')
    expect(readConfig({ ALLOWED_HOSTS: '' }, {}).allowedHosts).toEqual(readConfig({}, {}).allowedHosts)
  })

  test('normalises CORS_ORIGINS to the form of an Origin header, and refuses what has no such form', () => {
    const origins = (CORS_ORIGINS: string) => readConfig({ CORS_ORIGINS }, {}).corsOrigins
    expect(
      origins(
        'https://App.Example/,https://a.example:443,http://a.example:80,https://a.example:8443,http://bücher.example,http://[::1]:3000,capacitor://localhost,https://app.example',
      ),
    ).toEqual([
      'https://app.example',
      'https://a.example',
      'http://a.example',
      'https://a.example:8443',
      'http://xn--bcher-kva.example',
      'http://[::1]:3000',
      'capacitor://localhost',
    ])
    const refused: [string, string][] = [
      ['*', 'must not be \\*'],
      ['https://*.example', 'must not have a \\*'],
      ['null', 'must not be null'],
      ['app.example', 'must begin with its scheme'],
      ['localhost:3000', 'must begin with its scheme'],
      ['//app.example', 'must begin with its scheme'],
      ['https://app.example/path', 'without a path'],
      ['https://app.example?x', 'without a path'],
      ['https://me:hunter2@app.example', 'must be an origin'],
      ['https://', 'must be an origin'],
      ['ws://app.example', 'must be the origin of a page'],
      ['WSS://app.example', 'must be the origin of a page'],
      ['ftp://app.example', 'must be the origin of a page'],
      [',', 'has no items'],
      ['file:///x', 'must be an origin'],
      ['https://a b', 'must be an origin'],
    ]
    for (const [item, says] of refused) {
      expect(problems({ CORS_ORIGINS: item }), item).toMatch(new RegExp(`CORS_ORIGINS .*${says}`))
      expect(problems({ CORS_ORIGINS: item })).not.toContain('hunter2')
    }
  })

  test('accepts an address or a host name alone as HOST', () => {
    for (const HOST of ['[::1]', 'LOCALHOST', '127.0.0.2']) readConfig({ HOST }, {})
    expect(readConfig({ HOST: '[::1]' }, {}).host).toBe('::1')
    for (const HOST of ['http://127.0.0.1', '127.0.0.1:8080', '*', 'a b', '127.0.0.1/8'])
      expect(problems({ HOST })).toContain('HOST must be an address or a host name alone')
  })

  test('refuses a HOST that is not loopback without authentication or AUTH=none (P10)', () => {
    expect(problems({ HOST: '0.0.0.0' })).toContain('AUTH=none')
    expect(problems({ HOST: '::' })).toContain('AUTH=none')
    expect(problems({ HOST: '192.168.1.5' })).toContain('AUTH=none')
    expect(readConfig({ HOST: '0.0.0.0', AUTH: 'none' }, {}).host).toBe('0.0.0.0')
    for (const HOST of ['127.0.0.1', '127.9.9.9', 'localhost', '::1']) expect(readConfig({ HOST }, {}).host).toBe(HOST)
  })

  test('refuses contradicting settings of authentication, and AUTH_JWKS_URL without AUTH_AUDIENCE', () => {
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

  test('reads AUTH_DEV_CLAIMS on loopback without authentication, and refuses it elsewhere', () => {
    const AUTH_DEV_CLAIMS = '{"sub":"dev","https://example.com/tenant":7,"__proto__":{"admin":true}}'
    for (const env of [{}, { HOST: '127.9.9.9' }, { HOST: '::1' }, { HOST: 'localhost', AUTH: 'none' }]) {
      const { devClaims } = readConfig({ ...env, AUTH_DEV_CLAIMS }, {}).auth
      expect(devClaims).toEqual(JSON.parse(AUTH_DEV_CLAIMS))
    }
    expect(readConfig({}, { AUTH_DEV_CLAIMS: '{"sub":"dev"}' }).auth.devClaims).toEqual({ sub: 'dev' })
    expect(readConfig({ AUTH_DEV_CLAIMS: '' }, {}).auth.devClaims).toBeUndefined()
    for (const claims of [AUTH_DEV_CLAIMS, '{}']) {
      for (const HOST of ['0.0.0.0', '::', '192.168.1.5', 'app.example']) {
        for (const AUTH of ['', 'none'])
          expect(problems({ HOST, AUTH, AUTH_DEV_CLAIMS: claims })).toContain(
            `AUTH_DEV_CLAIMS gives the same claims to every client, and HOST=${HOST} can be reached from other machines: use HOST=127.0.0.1, or`,
          )
      }
      const keys = { AUTH_JWKS_URL: 'https://idp/keys', AUTH_AUDIENCE: 'a' }
      for (const env of [{ AUTH_JWT_SECRET: 's'.repeat(40) }, keys, { ...keys, HOST: '0.0.0.0' }])
        expect(problems({ ...env, AUTH_DEV_CLAIMS: claims })).toContain(
          'AUTH_DEV_CLAIMS contradicts AUTH_JWT_SECRET and AUTH_JWKS_URL',
        )
    }
  })

  test('refuses AUTH_DEV_CLAIMS that is no JSON object, and never repeats it', () => {
    for (const text of [
      'hunter2',
      '"hunter2"',
      '["hunter2"]',
      '{"sub":hunter2}',
      "{'sub':'hunter2'}",
      'null',
      '5',
      '{',
    ]) {
      const message = problems({ AUTH_DEV_CLAIMS: text })
      expect(message, text).toContain('AUTH_DEV_CLAIMS must be a JSON object of claims, as in {"sub":"dev"}')
      expect(message).not.toContain('hunter2')
    }
    expect(problems({ AUTH_DEV_CLAIM: '{}' })).toContain('did you mean AUTH_DEV_CLAIMS?')
  })

  test('reads secrets from the files that NAME_FILE names', () => {
    const dir = mkdtempSync(join(tmpdir(), 'spillway-config-'))
    writeFileSync(join(dir, 'secret'), `${'s'.repeat(40)}\n`)
    expect(readConfig({ AUTH_JWT_SECRET_FILE: join(dir, 'secret') }, {}).auth.secret).toBe('s'.repeat(40))
    expect(problems({ DATABASE_URL_FILE: join(dir, 'nothing') })).toContain(
      'DATABASE_URL_FILE names a file that cannot be read',
    )
    expect(problems({ PORT_FILE: 'x', WORKER_BATCH_FILE: 'x' })).toContain('WORKER_BATCH_FILE has no effect: only')
    rmSync(dir, { recursive: true })
  })

  test('refuses an empty secret file, which would turn authentication off or select a default', () => {
    const dir = mkdtempSync(join(tmpdir(), 'spillway-config-'))
    const file = join(dir, 'secret')
    for (const name of secretNames) {
      for (const text of ['', ' \n\t\r\n', '\ufeff']) {
        writeFileSync(file, text)
        for (const message of [problems({ [`${name}_FILE`]: file }), problems({}, { [`${name}_FILE`]: file })])
          expect(message, name).toContain(`${name}_FILE names an empty file`)
      }
      expect(problems({ [`${name}_FILE`]: '/dev/null' }), name).toContain(`${name}_FILE names a file that is a folder`)
    }
    rmSync(dir, { recursive: true })
  })

  test('refuses a secret file that is not UTF-8 text', () => {
    const dir = mkdtempSync(join(tmpdir(), 'spillway-config-'))
    const file = join(dir, 'secret')
    const binary = [
      Buffer.concat([Buffer.from('hunter2'.repeat(9)), Buffer.from([0xff, 0xfe, 0x80])]),
      Buffer.from('s'.repeat(40), 'utf16le'),
      Buffer.from([0xc3, ...Buffer.from('('.repeat(40))]),
    ]
    for (const bytes of binary) {
      writeFileSync(file, bytes)
      for (const name of secretNames) {
        const message = problems({ [`${name}_FILE`]: file })
        expect(message).toContain(`${name}_FILE names a file that is not well-formed UTF-8 text`)
        expect(message).not.toContain('hunter2')
      }
      expect(problems({ PERSISTED_OPERATIONS: file })).toContain('is not well-formed UTF-8 text')
    }
    const secret = 'ü'.repeat(20)
    writeFileSync(file, `\ufeff${secret}\r\n`)
    expect(readConfig({ AUTH_JWT_SECRET_FILE: file }, {}).auth.secret).toBe(secret)
    rmSync(dir, { recursive: true })
  })

  test('refuses a folder, a FIFO, a device and a huge file at once', () => {
    const dir = mkdtempSync(join(tmpdir(), 'spillway-config-'))
    const fifo = join(dir, 'fifo')
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0)
    const large = join(dir, 'large')
    writeFileSync(large, 'x'.repeat(1024 * 1024 + 1))
    const link = join(dir, 'link')
    symlinkSync(fifo, link)
    const begun = performance.now()
    for (const name of [...secretNames.map((secret) => `${secret}_FILE`), 'PERSISTED_OPERATIONS']) {
      for (const path of [dir, fifo, link, '/dev/zero', '/dev/tty'])
        expect(problems({ [name]: path }), path).toContain(`${name} names a file that `)
      for (const path of [dir, fifo, link, '/dev/zero'])
        expect(problems({ [name]: path }), path).toContain('is a folder, a FIFO or a device')
      expect(problems({ [name]: large })).toContain(`${name} names a file that has more than 1 MiB`)
    }
    for (const path of [dir, fifo, '/dev/zero'])
      expect(readEnvFile(path, () => true).problems).toEqual([expect.stringContaining('.env is a folder, a FIFO')])
    expect(readEnvFile(large, () => true).problems).toEqual([expect.stringContaining('.env has more than 1 MiB')])
    expect(readEnvFile(join(dir, 'nothing'), () => true)).toEqual({ values: {}, problems: [] })
    expect(performance.now() - begun).toBeLessThan(10_000)
    // As Kubernetes mounts secrets.
    mkdirSync(join(dir, '..data'))
    writeFileSync(join(dir, '..data', 'secret'), 's'.repeat(40))
    symlinkSync(join('..data', 'secret'), join(dir, 'secret'))
    expect(readConfig({ AUTH_JWT_SECRET_FILE: join(dir, 'secret') }, {}).auth.secret).toBe('s'.repeat(40))
    rmSync(dir, { recursive: true })
  })

  test('refuses a setting given both as a value and as a file in the same place', () => {
    const dir = mkdtempSync(join(tmpdir(), 'spillway-config-'))
    const file = join(dir, 'secret')
    writeFileSync(file, 's'.repeat(40))
    const both = { AUTH_JWT_SECRET: 'x'.repeat(40), AUTH_JWT_SECRET_FILE: file }
    const says = (where: string) =>
      `AUTH_JWT_SECRET and AUTH_JWT_SECRET_FILE are both set in ${where}: leave one of them out`
    expect(problems(both)).toContain(says('the environment'))
    expect(problems({}, both)).toContain(says('.env'))
    expect(readConfig({ ...both, AUTH_JWT_SECRET: '' }, {}).auth.secret).toBe('s'.repeat(40))
    // The environment wins over .env, in either form.
    const { AUTH_JWT_SECRET, AUTH_JWT_SECRET_FILE } = both
    expect(readConfig({ AUTH_JWT_SECRET }, { AUTH_JWT_SECRET_FILE }).auth.secret).toBe(AUTH_JWT_SECRET)
    expect(readConfig({ AUTH_JWT_SECRET_FILE }, { AUTH_JWT_SECRET }).auth.secret).toBe('s'.repeat(40))
    rmSync(dir, { recursive: true })
  })

  test('refuses a blank setting, which would turn off a check of tokens', () => {
    for (const name of ['AUTH_ISSUER', 'AUTH_AUDIENCE', 'AUTH_JWT_SECRET', 'ALLOWED_HOSTS', 'QUEUE_URL'])
      expect(problems({ AUTH_JWKS_URL: 'https://idp/keys', AUTH_AUDIENCE: 'a', [name]: ' \t' })).toContain(
        `${name} is blank: give it a value, or leave it out`,
      )
  })

  test('refuses AUTH_ISSUER and AUTH_AUDIENCE where no token is required', () => {
    for (const name of ['AUTH_ISSUER', 'AUTH_AUDIENCE']) {
      for (const env of [{}, { AUTH: 'none' }, { AUTH: 'none', HOST: '0.0.0.0' }])
        expect(problems({ ...env, [name]: 'x' })).toContain(
          `${name} checks tokens, and no token is asked for: set AUTH_JWT_SECRET or AUTH_JWKS_URL`,
        )
      expect(readConfig({ AUTH_JWT_SECRET: 's'.repeat(40), [name]: 'x' }, {}).auth.secret).toBe('s'.repeat(40))
    }
  })

  test('reads PERSISTED_OPERATIONS and never repeats what is in the file', () => {
    const dir = mkdtempSync(join(tmpdir(), 'spillway-config-'))
    const file = join(dir, 'operations.json')
    for (const text of ['hunter2', '"hunter2"', '{"a": hunter2}', 'null', '5', '[1]', '']) {
      writeFileSync(file, text)
      const message = problems({ PERSISTED_OPERATIONS: file })
      expect(message, text).toContain('PERSISTED_OPERATIONS must name a JSON file with a list of documents')
      expect(message).not.toContain('hunter2')
    }
    writeFileSync(file, '\ufeff["{ a }", "{ b }"]')
    expect(readConfig({ PERSISTED_OPERATIONS: file }, {}).operations).toEqual(new Set(['{ a }', '{ b }']))
    expect(problems({ PERSISTED_OPERATIONS: dir })).toContain('is a folder, a FIFO or a device')
    rmSync(dir, { recursive: true })
  })
})

test('parseEnvFile reads a .env as editors write it: CRLF, byte order marks, UTF-16, quotes, comments', () => {
  const text =
    'PORT=81\r\nexport QUEUE_CAPACITY="7" # few\r\n# HOST=x\r\nAUTH_ISSUER=\'a # b\'\r\n\r\nCACHE_TTL_MS=5 # ms\r\n'
  const utf16 = Buffer.from(`\ufeff${text}`, 'utf16le')
  const forms = [Buffer.from(text), Buffer.from(`\ufeff${text}`), utf16, Buffer.from(utf16).swap16()]
  for (const bytes of forms) {
    const { values, problems } = parseEnvFile(bytes, () => true)
    expect(problems).toEqual([])
    expect({ ...values }).toEqual({ PORT: '81', QUEUE_CAPACITY: '7', AUTH_ISSUER: 'a # b', CACHE_TTL_MS: '5' })
  }
})

test('parseEnvFile refuses a line that would be skipped or cut', () => {
  const wrong = (text: string | Buffer) => parseEnvFile(Buffer.from(text), (name) => name !== 'OTHER').problems
  expect(wrong('PORT 81\nHOST: x\nOTHER 1\nPORT\n')).toEqual([
    '.env, line 1: PORT must be followed by "=" and its value',
    '.env, line 2: HOST must be followed by "=" and its value',
    '.env, line 4: PORT must be followed by "=" and its value',
  ])
  expect(wrong('AUTH_JWT_SECRET=abc#hunter2\nOTHER=a#b\nPORT=81 # fine\nPORT=#\nAUTH_ISSUER="a#b"')).toEqual([
    '.env, line 1: the value of AUTH_JWT_SECRET would end at its "#": put it in quotes',
  ])
  expect(wrong(Buffer.from('PORT=81', 'utf16le'))).toEqual(['.env must be a text in UTF-8: save it as that'])
  expect(wrong(Buffer.from([0x50, 0xff]))).toEqual(['.env must be a text in UTF-8: save it as that'])
})

test('.env.example is what `npm run docs` writes', () => {
  expect(readFileSync('.env.example', 'utf8')).toBe(envExample())
})
