/** The process never prints a secret of its settings and never sends one to a client: at a start, a failed start, with servers unavailable, at a stop (FC13). */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, inject, test } from 'vitest'
import { freePort } from '../harness/daemon.ts'
import { holds } from '../harness/eventually.ts'
import { type SpillwayProcess, spawnSpillway } from '../harness/process.ts'

const sentinel = 'hunter2-of-the-settings'
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

async function begin(role: 'api' | 'worker', env: Record<string, string>): Promise<SpillwayProcess> {
  const started = await spawnSpillway(role, env, { ready: false })
  cleanups.push(() => started.kill('SIGKILL'))
  return started
}

/** A secret in each setting that may have one, servers at the given addresses. */
const secretive = (mysql: string, redis: string, otel: string) => ({
  DATABASE_URL: `mysql://nobody:${sentinel}%2F%25@${mysql}/x`,
  DATABASE_READ_URL: `mysql://nobody:${sentinel}@${mysql}/x`,
  QUEUE_URL: `redis://nobody:${sentinel}%2F%25@${redis}`,
  CACHE_URL: `redis://:${sentinel}@${redis}`,
  AUTH_JWT_SECRET: `${sentinel}-and-some-more-of-it`,
  OTEL_EXPORTER_OTLP_ENDPOINT: `http://${otel}/${sentinel}`,
  OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${sentinel}`,
})

const places: Record<string, () => Promise<[mysql: string, redis: string, otel: string]>> = {
  'are unavailable': async () => {
    const address = `127.0.0.1:${await freePort()}`
    return [address, address, address]
  },
  'refuse the password': async () => [
    new URL(inject('databaseUrl')).host,
    new URL(inject('redisUrl')).host,
    `127.0.0.1:${await freePort()}`,
  ],
}

test.each(Object.entries(places))(
  'an API whose servers %s neither prints a secret nor sends one',
  async (_name, addresses) => {
    const port = await freePort()
    const api = await begin('api', { PORT: String(port), ...secretive(...(await addresses())) })
    const url = `http://127.0.0.1:${port}`
    await holds(async () => expect((await fetch(`${url}/livez`)).status).toBe(200), { timeoutMs: 20_000 })
    const answers = await Promise.all(
      ['/readyz', '/graphql?query={contents{edges{cursor}}}', '/', '/metrics', '/nothing'].map(async (path) =>
        (await fetch(`${url}${path}`)).text(),
      ),
    )
    await holds(() => expect(api.logs()).toContain('Redis'))
    api.kill('SIGTERM')
    expect(await api.exited).toBe(0)
    expect(api.logs()).toContain('"listening"')
    expect(api.logs() + answers.join()).not.toContain(sentinel)
  },
)

test.each(Object.entries(places))('a worker whose servers %s prints no secret', async (_name, addresses) => {
  const worker = await begin('worker', secretive(...(await addresses())))
  await holds(() => expect(worker.logs()).toContain('waiting for the database'), { timeoutMs: 20_000 })
  worker.kill('SIGTERM')
  expect(await worker.exited).toBe(0)
  expect(worker.logs()).not.toContain(sentinel)
})

test('a start with malformed settings prints none of them', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-secrets-'))
  cleanups.push(() => rm(dir, { recursive: true, force: true }))
  const operations = join(dir, 'operations.json')
  await writeFile(operations, sentinel)
  const malformed: Record<string, string>[] = [
    {
      DATABASE_URL: `mysql://root:12/${sentinel}@db/x`,
      QUEUE_URL: `redis://:12/${sentinel}@h`,
      CACHE_URL: `redis://:%${sentinel}@h`,
      AUTH_JWKS_URL: `https://me:${sentinel}@idp/keys`,
      OTEL_EXPORTER_OTLP_ENDPOINT: `https://me:${sentinel}@otel`,
      OTEL_EXPORTER_OTLP_HEADERS: sentinel,
      PERSISTED_OPERATIONS: operations,
      HOST: `${sentinel}:1`,
      PORT: sentinel,
      ALLOWED_HOSTS: `https://me:${sentinel}@app.example`,
      CORS_ORIGINS: `https://me:${sentinel}@app.example`,
      INTROSPECTION: sentinel,
      OTEL_TRACES_SAMPLER: sentinel,
    },
    { DATABASE_URL: `file:./x.db?key=${sentinel}`, AUTH_JWT_SECRET_FILE: join(dir, 'none'), AUTH: sentinel },
    { DATABASE_URL: `mysql://root:${sentinel}@127.0.0.1:1/x?unknown=${sentinel}` },
  ]
  for (const env of malformed) {
    const failed = await begin('api', env)
    expect(await failed.exited, failed.logs()).toBe(1)
    for (const name of Object.keys(env)) expect(failed.logs()).toContain(name)
    expect(failed.logs()).not.toContain(sentinel)
  }
})
