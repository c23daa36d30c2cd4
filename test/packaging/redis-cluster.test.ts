/** deploy/redis-cluster: its manifests against their schemas, and its scripts on real servers. Whether a cluster of Kubernetes takes it is not tested here. */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { readConfig } from '../../src/config.ts'
import { root } from '../harness/imports.ts'
import { startRedis, type TestRedis } from '../harness/redis.ts'
import { type Manifest, manifestsOf, problemOf, typeErrors } from './manifests.ts'

const folder = join(root, 'deploy/redis-cluster')
const text = (name: string) => readFileSync(join(folder, name), 'utf8')
const kustomization: Manifest = parse(text('kustomization.yaml'))
const scripts: string[] = kustomization.configMapGenerator[0].files
const own = kustomization.resources.filter((name: string) => !name.startsWith('..'))
const manifests = own.flatMap((name: string) => manifestsOf(text(name))) as Manifest[]
const get = (kind: string) => manifests.find((manifest) => manifest.kind === kind) as Manifest

const servers: TestRedis[] = []
const dir = await mkdtemp(join(tmpdir(), 'spillway-cluster-'))
afterAll(async () => {
  await Promise.all(servers.map((server) => server.stop()))
  await rm(dir, { recursive: true })
})

test('every file of the folder is named by the kustomization, and every manifest is what its schema says', async () => {
  const patches = kustomization.patches.map(({ path }: Manifest) => path)
  expect([...own, ...scripts, ...patches, 'kustomization.yaml'].sort()).toEqual(readdirSync(folder).sort())
  for (const manifest of manifests) {
    expect(manifest.metadata.namespace).toBe(kustomization.namespace)
    expect(await problemOf(manifest), `${manifest.kind} ${manifest.metadata.name}`).toBeUndefined()
  }
  expect(typeErrors(manifests)).toBe('')
})

test('Spillway starts with its settings and its QUEUE_URL', () => {
  const { data } = manifestsOf(text('settings.yaml'))[0]!
  const [queueUrl] = /redis\+cluster:\S+/.exec(text('settings.yaml'))!
  const config = readConfig({ ...data, DATABASE_URL: 'mysql://a:b@mysql/spillway', QUEUE_URL: queueUrl }, {})
  expect(config).toMatchObject({ queueShards: 3, queueReplicas: 1, queueCapacity: 900_000 })
  const { replicas, serviceName } = get('StatefulSet').spec
  const names = Array.from({ length: replicas }, (_, n) => `spillway-redis-${n}.${serviceName}:6379`)
  for (const [host] of queueUrl.matchAll(/spillway[^,\s]+/g)) expect(names).toContain(host)
  const { env } = get('Job').spec.template.spec.containers[0]
  expect(env.find(({ name }: Manifest) => name === 'NODES').value.split(/\s+/)).toEqual(names)
})

test('form.sh makes a cluster of six servers with redis.conf, and leaves it alone the second time', async () => {
  const password = 'of the cluster'
  const conf = text('redis.conf')
    .split('\n')
    // The folder is the test's own, and the port a free one.
    .filter((line) => line && !/^(port|dir|#)/.test(line))
  writeFileSync(join(dir, 'password'), password)
  const start = async () => {
    const server = await startRedis({ args: ['--cluster-enabled', 'yes'] })
    servers.push(server)
    for (const line of conf) {
      const [name = '', ...value] = line.split(' ')
      if (!/^cluster-(enabled|config-file)$/.test(name)) await server.cli('CONFIG', 'SET', name, value.join(' '))
    }
    await server.cli('CONFIG', 'SET', 'masterauth', password)
    await server.cli('CONFIG', 'SET', 'requirepass', password)
  }
  await Promise.all(Array.from({ length: 6 }, start))
  const nodes = servers.map(({ port }) => `127.0.0.1:${port}`)
  const env = { ...process.env, NODES: nodes.join(' '), PASSWORD_FILE: join(dir, 'password') }
  const form = async () => (await promisify(execFile)('sh', [join(folder, 'form.sh')], { env })).stdout
  expect(await form()).toContain('All 16384 slots covered')
  expect(await form()).toBe('the cluster is formed already\n')
}, 120_000)

test('start.sh is a script that sh can read', async () => {
  await promisify(execFile)('sh', ['-n', join(folder, 'start.sh')])
})
