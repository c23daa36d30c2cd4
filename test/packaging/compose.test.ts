/**
 * docker-compose.yml, without Docker. The schema below is the part of the Compose Specification that the file uses, written down from
 * its documentation and closed: a key that is not in it fails here, and is to be looked up before it is added. What no schema tells
 * (that a promise holds with these settings) is asked one by one. Whether the images start is not tested here.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { readConfig } from '../../src/config.ts'
import { PrismaStore } from '../../src/db/prisma.ts'
import { OriginCheck } from '../../src/http/origin-check.ts'
import { given, models } from '../harness/contents.ts'
import { freePort } from '../harness/daemon.ts'
import { eventually } from '../harness/eventually.ts'
import { root } from '../harness/imports.ts'
import { quiet } from '../harness/quiet.ts'

const strings = { type: 'array', items: { type: 'string' }, minItems: 1 }
const duration = { type: 'string', pattern: '^([0-9]+(us|ms|s|m|h))+$' }
const bytes = { type: 'string', pattern: '^[0-9]+(b|k|m|g|kb|mb|gb)$' }
const closed = (properties: object, required: string[] = []) => ({
  type: 'object',
  properties,
  required,
  additionalProperties: false,
})

const schema = {
  type: 'object',
  required: ['name', 'services', 'volumes'],
  additionalProperties: false,
  patternProperties: { '^x-': {} },
  properties: {
    name: { type: 'string', pattern: '^[a-z0-9][a-z0-9_-]*$' },
    volumes: { type: 'object', additionalProperties: { type: 'null' } },
    services: {
      type: 'object',
      propertyNames: { pattern: '^[a-zA-Z0-9._-]+$' },
      additionalProperties: closed(
        {
          profiles: strings,
          image: { type: 'string', pattern: '^[a-z0-9./_-]+(:[A-Za-z0-9._-]+)?$' },
          build: {
            oneOf: [
              { type: 'string' },
              {
                type: 'object',
                properties: { context: { type: 'string' }, target: { type: 'string' } },
                additionalProperties: false,
              },
            ],
          },
          user: { type: 'string' },
          init: { type: 'boolean' },
          read_only: { type: 'boolean' },
          restart: { enum: ['no', 'always', 'on-failure', 'unless-stopped'] },
          stop_grace_period: duration,
          command: strings,
          environment: { type: 'object', additionalProperties: { type: ['string', 'number', 'boolean', 'null'] } },
          ports: strings,
          volumes: strings,
          tmpfs: strings,
          cap_drop: strings,
          security_opt: strings,
          depends_on: {
            type: 'object',
            additionalProperties: closed(
              { condition: { enum: ['service_started', 'service_healthy', 'service_completed_successfully'] } },
              ['condition'],
            ),
          },
          deploy: closed({
            replicas: { type: 'integer' },
            resources: closed({ limits: closed({ memory: bytes }) }),
          }),
          healthcheck: {
            oneOf: [
              closed({ disable: { const: true } }, ['disable']),
              closed(
                {
                  test: { ...strings, items: [{ enum: ['CMD', 'CMD-SHELL'] }], additionalItems: { type: 'string' } },
                  interval: duration,
                  timeout: duration,
                  start_period: duration,
                  retries: { type: 'integer', minimum: 1 },
                },
                ['test', 'interval', 'timeout', 'retries'],
              ),
            ],
          },
        },
        ['image', 'restart', 'healthcheck'],
      ),
    },
  },
}

// biome-ignore lint/suspicious/noExplicitAny: the schema says what it is.
type Service = Record<string, any>
const text = readFileSync(join(root, 'docker-compose.yml'), 'utf8')
const compose = parse(text, { merge: true }) as { services: Record<string, Service>; volumes: object }
const service = (name: string): Service => compose.services[name] ?? expect.unreachable(`there is no service ${name}`)
const validate = new Ajv({ allErrors: true, allowUnionTypes: true, strictTuples: false }).compile(schema)

/** A variable takes its default, as on a machine where nobody has set one. */
const environmentOf = (name: string): Record<string, string> =>
  Object.fromEntries(
    Object.entries(service(name).environment as Record<string, unknown>).map(([key, value]) => [
      key,
      String(value).replace(/\$\{\w+:-([^}]*)\}/g, '$1'),
    ]),
  )

/** What follows `--name` on the command line of a Redis. */
const setting = (name: string, key: string): string | undefined => {
  const command: string[] = service(name).command
  return command[command.indexOf(`--${key}`) + 1]
}

const size = (text: string): number => {
  const [, number, unit] = /^(\d+)([kmg])b?$/.exec(text) ?? expect.unreachable(`${text} is no size`)
  return Number(number) * 1024 ** ('kmg'.indexOf(unit!) + 1)
}

test('is a Compose file', () => {
  expect(validate(compose), JSON.stringify(validate.errors, null, 2)).toBe(true)
})

test.each([
  ['a misspelt key', 'restart: unless-stopped', 'restrat: unless-stopped'],
  ['a value that is none', 'condition: service_healthy', 'condition: healthy'],
  ['a number without a unit', 'stop_grace_period: 60s', 'stop_grace_period: 60'],
  ['a list that became a map', '- CMD-SHELL\n', '- CMD-SHELL: x\n'],
])('the schema finds %s', (_, right, wrong) => {
  expect(text).toContain(right)
  expect(validate(parse(text.replace(right, wrong), { merge: true }))).toBe(false)
})

/** What starts with these profiles. */
const started = (...profiles: string[]) =>
  Object.keys(compose.services)
    .filter((name) => (service(name).profiles ?? profiles).some((profile: string) => profiles.includes(profile)))
    .sort()

test('has what docs/operations.md says: a database, two Redis, the API, two workers; more by profile', () => {
  const always = ['api', 'mysql', 'redis-cache', 'redis-queue', 'worker']
  expect(started('none')).toEqual(always)
  expect(started('observability')).toEqual([...always, 'grafana', 'prometheus'].sort())
  expect(started('studio')).toEqual([...always, 'studio'].sort())
  expect(service('mysql').image).toBe('mysql:8.4')
  expect(service('worker').deploy.replicas).toBe(2)
  expect(service('worker').command.at(-1)).toBe('worker/main.ts')
  expect(service('api').command, 'the API is what the image runs by default').toBeUndefined()
})

describe.each(['api', 'worker'])('%s', (name) => {
  test('waits for what it uses to be healthy', () => {
    const healthy = { condition: 'service_healthy' }
    expect(service(name).depends_on).toEqual({ mysql: healthy, 'redis-queue': healthy, 'redis-cache': healthy })
    for (const other of Object.keys(service(name).depends_on)) expect(service(other).healthcheck.test).toBeDefined()
  })

  test('has settings that Spillway accepts, and that name services of this file', () => {
    const config = readConfig(environmentOf(name), {})
    expect(new URL(config.databaseUrl)).toMatchObject({
      hostname: 'mysql',
      pathname: '/spillway',
      username: 'spillway',
    })
    expect(new URL(config.queueUrl).hostname).toBe('redis-queue')
    expect(new URL(config.cacheUrl).hostname).toBe('redis-cache')
    expect(new URL(config.databaseUrl).password).toBe(environmentOf('mysql').MYSQL_PASSWORD)
  })

  test('is built from this repository, and is not root', () => {
    expect(service(name).build).toBe('.')
    expect(service(name).user, 'the Dockerfile says which user').toBeUndefined()
    expect(service(name).cap_drop).toEqual(['ALL'])
  })
})

test('the API says aloud that it has no authentication, and is published to this machine only (P10)', () => {
  const environment = environmentOf('api')
  expect(environment).toMatchObject({ HOST: '0.0.0.0', AUTH: 'none' })
  expect(() => readConfig({ ...environment, AUTH: undefined }, {})).toThrow(/HOST=0\.0\.0\.0/)
  expect(service('api').ports).toEqual(['127.0.0.1:8080:8080'])
  for (const name of ['mysql', 'redis-queue', 'redis-cache', 'worker']) expect(service(name).ports).toBeUndefined()
})

test('whatever is published is published to this machine only', () => {
  const ports = Object.values(compose.services).flatMap((service): string[] => service.ports ?? [])
  expect(ports.sort()).toEqual([3000, 5555, 8080, 9090].map((port) => `127.0.0.1:${port}:${port}`))
})

test('a page of another name that points here is not answered, and Prometheus and the health check are', () => {
  const { allowedHosts } = readConfig(environmentOf('api'), {})
  const originCheck = new OriginCheck({ hosts: allowedHosts, origins: [], log: quiet() })
  const check = (host: string) =>
    originCheck.check({ headers: { host }, rawHeaders: ['Host', host], method: 'GET' } as unknown as IncomingMessage)
  expect(() => check('evil.example:8080')).toThrow(/ALLOWED_HOSTS/)
  const { scrape_configs: jobs } = parse(readFileSync(join(root, 'deploy/prometheus/prometheus.yml'), 'utf8'))
  for (const host of [jobs[0].static_configs[0].targets[0], '127.0.0.1:8080', 'localhost:8080']) check(host)
})

test('Prometheus finds the API and the workers where they listen', () => {
  const { scrape_configs: jobs } = parse(readFileSync(join(root, 'deploy/prometheus/prometheus.yml'), 'utf8'))
  const { host, port } = readConfig(environmentOf('api'), {})
  const worker = readConfig(environmentOf('worker'), {})
  expect([host, worker.host]).toEqual(['0.0.0.0', '0.0.0.0'])
  expect(jobs[0].static_configs).toEqual([{ targets: [`api:${port}`] }])
  expect(jobs[1].dns_sd_configs).toMatchObject([{ names: ['worker'], type: 'A', port: worker.workerPort }])
  expect(worker.allowedHosts, 'each worker is called by its address').toEqual([])
})

test('Prometheus and Grafana have exact versions, and start on the files of this repository', () => {
  for (const name of ['prometheus', 'grafana']) expect(service(name).image).toMatch(/:v?\d+\.\d+\.\d+$/)
  expect(service('prometheus').volumes).toContain('./deploy/prometheus:/etc/prometheus:ro')
  const { datasources } = parse(
    readFileSync(join(root, 'deploy/grafana/provisioning/datasources/prometheus.yml'), 'utf8'),
  )
  expect(datasources[0].url).toBe('http://prometheus:9090')
  const { providers } = parse(readFileSync(join(root, 'deploy/grafana/provisioning/dashboards/spillway.yml'), 'utf8'))
  const mounts: string[] = service('grafana').volumes
  expect(mounts).toContain(`./deploy/grafana/dashboards:${providers[0].options.path}:ro`)
  const home = environmentOf('grafana').GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH!
  expect(existsSync(join(root, home.replace(providers[0].options.path, 'deploy/grafana/dashboards')))).toBe(true)
})

test('Grafana has no login: who reaches it may look', () => {
  expect(environmentOf('grafana')).toMatchObject({
    GF_AUTH_ANONYMOUS_ENABLED: 'true',
    GF_AUTH_ANONYMOUS_ORG_ROLE: 'Viewer',
    GF_AUTH_DISABLE_LOGIN_FORM: 'true',
    GF_AUTH_BASIC_ENABLED: 'false',
    GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION: 'true',
  })
})

test('Studio opens the database of the API, by a script that is mounted', () => {
  expect(environmentOf('studio')).toEqual({ DATABASE_URL: environmentOf('api').DATABASE_URL })
  const [, script] = service('studio').command
  expect(service('studio').volumes).toEqual([`./deploy/compose/studio.mjs:${script}:ro`])
})

test.each(['api', 'worker', 'studio', 'prometheus', 'grafana'])('%s cannot change its own files', (name) => {
  expect(service(name)).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] })
  for (const volume of service(name).volumes ?? []) if (volume.startsWith('.')) expect(volume).toMatch(/:ro$/)
})

test('the queue is durable and never evicts (P1)', () => {
  expect(setting('redis-queue', 'appendonly')).toBe('yes')
  expect(setting('redis-queue', 'appendfsync')).toBe('always')
  expect(setting('redis-queue', 'no-appendfsync-on-rewrite')).toBe('no')
  expect(setting('redis-queue', 'maxmemory-policy')).toBe('noeviction')
  expect(service('redis-queue').volumes).toEqual(['queue-data:/data'])
})

test('the cache keeps nothing and evicts', () => {
  expect(setting('redis-cache', 'appendonly')).toBe('no')
  expect(setting('redis-cache', 'save')).toBe('')
  expect(setting('redis-cache', 'maxmemory-policy')).toBe('allkeys-lru')
  expect(service('redis-cache').volumes).toBeUndefined()
})

test.each(['redis-queue', 'redis-cache'])('%s refuses or evicts before the container is killed', (name) => {
  expect(size(setting(name, 'maxmemory')!)).toBeLessThan(size(service(name).deploy.resources.limits.memory))
})

test('a full queue and a full events log leave room in Redis (P6)', () => {
  const { queueCapacity, eventsRetentionBytes } = readConfig(environmentOf('api'), {})
  // With contents of 1 KB, by the formula that people are given.
  const formula =
    'QUEUE_CAPACITY × (1.2 × average content + 450 bytes) + 1.25 × EVENTS_RETENTION_BYTES  <  0.8 × maxmemory'
  expect(readFileSync(join(root, 'docs/operations.md'), 'utf8')).toContain(formula)
  const full = queueCapacity * (1.2 * 1024 + 450) + 1.25 * eventsRetentionBytes
  expect(full).toBeLessThan(0.8 * size(setting('redis-queue', 'maxmemory')!))
})

test('MySQL stays strict, its password comes from the environment, and its data has a name', () => {
  expect(service('mysql').command ?? []).not.toContainEqual(expect.stringMatching(/sql[-_]mode/))
  expect(service('mysql').environment.MYSQL_PASSWORD).toMatch(/^\$\{MYSQL_PASSWORD:-\w+\}$/)
  expect(environmentOf('mysql')).toMatchObject({ MYSQL_DATABASE: 'spillway', MYSQL_USER: 'spillway' })
  expect(service('mysql').volumes).toEqual(['mysql-data:/var/lib/mysql'])
  expect(Object.keys(compose.volumes).sort()).toEqual(['mysql-data', 'prometheus-data', 'queue-data'])
})

test('everything starts again by itself, is not root, and has the time to stop', () => {
  for (const [name, { restart, user, build }] of Object.entries(compose.services)) {
    expect(restart, name).toBe('unless-stopped')
    expect(user ?? (build && 'node'), name).toMatch(/^(node|mysql|redis|nobody|472)$/)
  }
  // Spillway itself gives up after 9.5 s.
  for (const name of ['api', 'worker']) expect(Number.parseInt(service(name).stop_grace_period, 10)).toBeGreaterThan(10)
})

test('every bind mount and build folder there is exists', () => {
  for (const { build, volumes = [] } of Object.values(compose.services)) {
    if (build) expect(existsSync(join(root, build.context ?? build, 'Dockerfile'))).toBe(true)
    for (const volume of volumes) {
      const [from] = volume.split(':')
      if (from.startsWith('.')) expect(existsSync(join(root, from)), from).toBe(true)
      else expect(compose.volumes).toHaveProperty(from)
    }
  }
})

test.each([
  ['api', '/livez', 200, 0],
  ['api', '/livez', 503, 1],
  ['api', '/livez', undefined, 1],
  ['worker', '/livez', 200, 0],
  ['worker', '/livez', 503, 1],
  ['worker', '/livez', undefined, 1],
  ['studio', '/', 200, 0],
  ['studio', '/', 503, 1],
  ['studio', '/', undefined, 1],
] as const)('the health check of %s asks for %s, meets %s and ends with %s', async (name, path, status, code) => {
  const server = createServer((request, response) => {
    response.statusCode = request.url === path ? status! : 404
    response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  if (status === undefined) await new Promise((resolve) => server.close(resolve))
  const [, , ...args] = service(name).healthcheck.test as string[]
  const { port: apiPort, workerPort } = readConfig(environmentOf(name), {})
  const listens = { api: apiPort, worker: workerPort, studio: Number(service('studio').command.at(-1)) }[name]
  expect(args.join(' ')).toContain(`:${listens}/`)
  const check = spawn(
    process.execPath,
    args.map((arg) => arg.replace(`:${listens}`, `:${port}`)),
  )
  expect(await once(check, 'exit')).toEqual([code, null])
  server.close()
})

test('Studio is let in on another address, and answers there', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-studio-'))
  const store = await PrismaStore.open({
    url: `file:${dir}/x.db`,
    concurrency: 1,
    models,
    clients: given.prisma,
    log: quiet(),
  })
  await store.prepare(AbortSignal.timeout(20_000))
  await store.close()
  const port = await freePort()
  // On a machine without Docker the other address is one of loopback's; in the container it is the container's.
  const child = spawn(process.execPath, ['deploy/compose/studio.mjs', String(port), '127.0.0.2'], {
    cwd: root,
    env: { PATH: process.env.PATH, DATABASE_URL: `file:${dir}/x.db` },
  })
  const exited = once(child, 'exit')
  try {
    const page = await eventually(async () => (await fetch(`http://127.0.0.2:${port}/`)).text(), { timeoutMs: 30_000 })
    expect(page).toContain('studio.js')
    // What a browser sends that was told http://127.0.0.1:PORT or http://localhost:PORT, as the port is published.
    for (const origin of [`http://127.0.0.1:${port}`, `http://localhost:${port}`]) {
      const answer = await fetch(`http://127.0.0.2:${port}/bff`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', origin },
        body: JSON.stringify({ procedure: 'query', query: { sql: 'SELECT 1 AS n', parameters: [] } }),
      })
      expect(await answer.json(), origin).toEqual([null, [{ n: 1 }]])
    }
  } finally {
    child.kill('SIGTERM')
    await exited
    await rm(dir, { recursive: true })
  }
})
