/** Redis and MariaDB behind TLS: the whole job over it, and not a word to a server whose certificate nobody vouches for. */
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { find, need } from '../harness/binaries.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { startMariadb, type TestMariadb } from '../harness/mariadb.ts'
import { type SpillwayProcess, spawnSpillway } from '../harness/process.ts'
import { startRedis, type TestRedis } from '../harness/redis.ts'
import { spawnSentinel } from '../harness/sentinel.ts'

let dir: string
let certificate: string
let redis: TestRedis
let redisTls: string
let mariadb: TestMariadb
/** Of a user who is let in over TLS only. */
let databaseUrl: string
let files: string[]
let trusting: Record<string, string>
const processes: SpillwayProcess[] = []

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'spillway-tls-'))
  certificate = join(dir, 'certificate.pem')
  const key = join(dir, 'key.pem')
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  execFileSync(
    need(find('openssl'), 'openssl'),
    ['req', '-x509', ...curve, ...subject, '-keyout', key, '-out', certificate],
    { stdio: 'pipe' },
  )
  trusting = { NODE_EXTRA_CA_CERTS: certificate }
  const tlsPort = await freePort()
  files = ['--tls-cert-file', certificate, '--tls-key-file', key, '--tls-ca-cert-file', certificate]
  ;[redis, mariadb] = await Promise.all([
    startRedis({ args: ['--tls-port', String(tlsPort), ...files, '--tls-auth-clients', 'no'] }),
    startMariadb({ args: [`--ssl-cert=${certificate}`, `--ssl-key=${key}`] }),
  ])
  redisTls = `rediss://127.0.0.1:${tlsPort}`
  const url = new URL(await mariadb.createDatabase())
  await mariadb.sql("CREATE USER 'tls'@'%' IDENTIFIED BY 'secret' REQUIRE SSL")
  await mariadb.sql(`GRANT ALL ON \`${url.pathname.slice(1)}\`.* TO 'tls'@'%'`)
  url.username = 'tls'
  url.password = 'secret'
  databaseUrl = url.href
})
afterAll(async () => {
  await Promise.all([redis?.cleanup(), mariadb?.cleanup()])
  await rm(dir, { recursive: true, force: true })
})
afterEach(async () => {
  for (const process of processes) process.kill('SIGKILL')
  await Promise.all(processes.splice(0).map(({ exited }) => exited))
  await redis.cli('FLUSHALL')
})

async function start(role: 'api' | 'worker', env: Record<string, string>): Promise<SpillwayProcess> {
  const started = await spawnSpillway(role, { NODE_ENV: 'production', ...env })
  processes.push(started)
  return started
}

test('Spillway saves over rediss:// and sslaccept=strict, and every connection is encrypted', async () => {
  const env = {
    ...trusting,
    DATABASE_URL: `${databaseUrl}?sslaccept=strict`,
    QUEUE_URL: `${redisTls}/0`,
    CACHE_URL: `${redisTls}/1`,
  }
  const [api] = await Promise.all([start('api', env), start('worker', env)])
  expect((await api.client.saveAndWait('over TLS')).data.save).toMatchObject({
    status: 'SAVED',
    content: { content: 'over TLS' },
  })
  const clients = String(await redis.cli('CLIENT', 'LIST')).split('\n')
  const ours = clients.filter((line) => /name=spillway/.test(line))
  expect(ours.length).toBeGreaterThan(4)
  const { port } = new URL(redisTls)
  expect(ours.filter((line) => !line.includes(`laddr=127.0.0.1:${port} `))).toEqual([])
})

test('Spillway saves over rediss+cluster:// from node to node, with a cache that a Sentinel names over rediss+sentinel://', async () => {
  const ports = [await freePort(), await freePort(), await freePort()] as const
  const node = async (port: number) =>
    startRedis({
      args: [
        ...['--tls-port', String(port), ...files, '--tls-auth-clients', 'no', '--tls-cluster', 'yes'],
        ...['--cluster-enabled', 'yes', '--cluster-port', String(await freePort())],
      ],
    })
  const config = [
    `tls-port ${ports[2]}`,
    ...[`tls-cert-file ${certificate}`, `tls-key-file ${files[3]}`, `tls-ca-cert-file ${certificate}`],
    ...['tls-auth-clients no', 'tls-replication yes'],
  ]
  const starting = [node(ports[0]), node(ports[1]), spawnSentinel(Number(new URL(redisTls).port), { config })] as const
  try {
    const [first, second, sentinel] = await Promise.all(starting)
    await second.cli('CLUSTER', 'ADDSLOTSRANGE', 0, 16_383)
    const [, bus] = (await second.cli('CONFIG', 'GET', 'cluster-port')) as [string, string]
    await first.cli('CLUSTER', 'MEET', '127.0.0.1', ports[1], bus)
    await holds(async () => expect(String(await first.cli('CLUSTER', 'INFO'))).toContain('cluster_state:ok'))
    const env = {
      ...trusting,
      DATABASE_URL: `${databaseUrl}?sslaccept=strict`,
      QUEUE_URL: `rediss+cluster://127.0.0.1:${ports[0]}`,
      CACHE_URL: `rediss+sentinel://127.0.0.1:${ports[2]}/mymaster/1`,
    }
    const [api, worker] = await Promise.all([start('api', env), start('worker', env)])
    expect((await api.client.saveAndWait('over TLS')).data.save).toMatchObject({ status: 'SAVED' })
    await holds(async () => {
      const { cache } = await (await fetch(`${api.url}/readyz`)).json()
      expect(cache).toEqual({ state: 'ready' })
    })
    for (const [server, port] of [
      [second, ports[1]],
      [redis, new URL(redisTls).port],
      [sentinel, ports[2]],
    ] as const) {
      const clients = String(await server.cli('CLIENT', 'LIST')).split('\n')
      expect(clients.filter((line) => line.includes(`laddr=127.0.0.1:${port} `)).length).toBeGreaterThan(0)
    }
    for (const { logs } of [api, worker]) expect(logs()).not.toContain('cannot be used')
  } finally {
    await Promise.allSettled(starting.map(async (server) => (await server).cleanup()))
  }
})

describe('a self-signed certificate', () => {
  test('of Redis lets an API accept nothing, and the log gives the reason', async () => {
    const api = await start('api', { DATABASE_URL: `file:${dir}/a.db`, QUEUE_URL: redisTls })
    expect((await api.client.saveAndWait('over TLS', 0)).errors).toMatchObject([
      { extensions: { code: 'QUEUE_UNAVAILABLE' } },
    ])
    expect((await fetch(`${api.url}/readyz`)).status).toBe(503)
    await eventually(() => api.logs().includes('self-signed certificate'))
  })

  test('of MariaDB keeps saves in the queue, and the log gives the reason; accept_invalid_certs accepts it', async () => {
    const env = { QUEUE_URL: redis.url, DATABASE_URL: `${databaseUrl}?sslaccept=strict` }
    const [api, worker] = await Promise.all([start('api', env), start('worker', env)])
    expect((await api.client.saveAndWait('over TLS', 0)).data.save.status).toBe('QUEUED')
    await eventually(() => worker.logs().includes('self-signed certificate'), { timeoutMs: 20_000 })
    const careless = { QUEUE_URL: redis.url, DATABASE_URL: `${databaseUrl}?sslaccept=accept_invalid_certs` }
    const [other] = await Promise.all([start('api', careless), start('worker', careless)])
    expect((await other.client.saveAndWait('over TLS')).data.save.status).toBe('SAVED')
  })
})
