/**
 * docker-compose.yml, without Docker. The schema below is the part of the Compose Specification that the file uses, written down from
 * its documentation and closed: a key that is not in it fails here, and is to be looked up before it is added. What no schema tells
 * (that a promise holds with these settings) is asked one by one. Whether the images start is not tested here.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { readConfig } from '../../src/config.ts'
import { root } from '../harness/imports.ts'

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
          image: { type: 'string', pattern: '^[a-z0-9./_-]+(:[A-Za-z0-9._-]+)?$' },
          build: { type: 'string' },
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

test('has what the README promises: a database, two Redis, the API, two workers', () => {
  expect(Object.keys(compose.services).sort()).toEqual(['api', 'mysql', 'redis-cache', 'redis-queue', 'worker'])
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
  // A content of 1 KB, and what a stream entry and its line in the pending hash cost beside it.
  const full = queueCapacity * (1024 + 512) + eventsRetentionBytes
  expect(full).toBeLessThan(0.8 * size(setting('redis-queue', 'maxmemory')!))
})

test('MySQL stays strict, its password comes from the environment, and its data has a name', () => {
  expect(service('mysql').command ?? []).not.toContainEqual(expect.stringMatching(/sql[-_]mode/))
  expect(service('mysql').environment.MYSQL_PASSWORD).toMatch(/^\$\{MYSQL_PASSWORD:-\w+\}$/)
  expect(environmentOf('mysql')).toMatchObject({ MYSQL_DATABASE: 'spillway', MYSQL_USER: 'spillway' })
  expect(service('mysql').volumes).toEqual(['mysql-data:/var/lib/mysql'])
  expect(Object.keys(compose.volumes).sort()).toEqual(['mysql-data', 'queue-data'])
})

test('everything starts again by itself, is not root, and has the time to stop', () => {
  for (const [name, { restart, user, build }] of Object.entries(compose.services)) {
    expect(restart, name).toBe('unless-stopped')
    expect(user ?? (build && 'node'), name).toMatch(/^(node|mysql|redis)$/)
  }
  // Spillway itself gives up after 9.5 s.
  for (const name of ['api', 'worker']) expect(Number.parseInt(service(name).stop_grace_period, 10)).toBeGreaterThan(10)
})

test('every bind mount and build folder there is exists', () => {
  for (const { build, volumes = [] } of Object.values(compose.services)) {
    if (build) expect(existsSync(join(root, build, 'Dockerfile'))).toBe(true)
    for (const volume of volumes) expect(compose.volumes).toHaveProperty(volume.split(':')[0])
  }
})

test.each([
  [200, 0],
  [503, 1],
  [undefined, 1],
])("the API's health check meets %s and ends with %s", async (status, code) => {
  const server = createServer((request, response) => {
    response.statusCode = request.url === '/livez' ? status! : 404
    response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  if (status === undefined) await new Promise((resolve) => server.close(resolve))
  const [, , ...args] = service('api').healthcheck.test as string[]
  const check = spawn(
    process.execPath,
    args.map((arg) => arg.replace(':8080', `:${port}`)),
  )
  expect(await once(check, 'exit')).toEqual([code, null])
  server.close()
})
