/**
 * deploy/kubernetes, without a cluster. Values are checked against Kubernetes' and KEDA's own schemas (kubernetes-models, made from
 * their OpenAPI), which let unknown keys pass; these the TypeScript compiler finds, in the same package's types. What no schema tells is
 * asked one by one: that names meet, and that Spillway starts with these settings. Whether a cluster takes it is not tested here.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { type Config, ConfigError, readConfig } from '../../src/config.ts'
import { root } from '../harness/imports.ts'
import { promtool } from '../harness/prometheus.ts'
import { type Manifest, manifestsOf, problemOf, typeErrors } from './manifests.ts'
import { metricsIn } from './promql.ts'

const folder = join(root, 'deploy/kubernetes')
const kustomization: Manifest = parse(readFileSync(join(folder, 'kustomization.yaml'), 'utf8'))
const files = kustomization.resources as string[]
const text = (name: string) => readFileSync(join(folder, name), 'utf8')
const manifests = files.flatMap((name) => manifestsOf(text(name)))
const all = (kind: string) => manifests.filter((manifest) => manifest.kind === kind)
const get = (kind: string, name: string): Manifest =>
  all(kind).find(({ metadata }) => metadata.name === name) ?? expect.unreachable(`there is no ${kind} ${name}`)

const secretsDir = mkdtempSync(join(tmpdir(), 'spillway-secrets-'))
afterAll(() => {
  rmSync(secretsDir, { recursive: true })
})

test('every manifest is listed, and of this namespace', () => {
  expect([...files, 'kustomization.yaml'].sort()).toEqual(readdirSync(folder).sort())
  expect(kustomization).toMatchObject({ apiVersion: 'kustomize.config.k8s.io/v1beta1', kind: 'Kustomization' })
  expect(Object.keys(kustomization).sort()).toEqual(['apiVersion', 'images', 'kind', 'namespace', 'resources'])
  for (const { kind, metadata } of manifests) {
    expect(kind === 'Namespace' ? metadata.name : metadata.namespace).toBe(kustomization.namespace)
  }
  const names = manifests.map(({ kind, metadata }) => `${kind} ${metadata.name}`)
  expect(new Set(names).size).toBe(names.length)
})

test('every manifest is what its schema says', async () => {
  for (const manifest of manifests) {
    expect(await problemOf(manifest), `${manifest.kind} ${manifest.metadata.name}`).toBeUndefined()
  }
})

test('no manifest has a key that there is not', () => {
  expect(typeErrors(manifests)).toBe('')
})

describe('found out:', () => {
  const wrong = (name: string, right: string, other: string) => {
    expect(text(name)).toContain(right)
    return manifestsOf(text(name).replace(right, other))
  }
  test.each([
    ['a port that is none', 'api.yaml', 'containerPort: 8080', 'containerPort: eighty'],
    ['a number for a text', 'config.yaml', 'PORT: "8080"', 'PORT: 8080'],
    ['a missing selector', 'worker.yaml', 'scaleTargetRef: { name: spillway-worker }', 'scaleTargetRef: {}'],
  ])('%s', async (_, name, right, other) => {
    const problems = await Promise.all(wrong(name, right, other).map(problemOf))
    expect(problems.filter(Boolean)).toHaveLength(1)
  })

  test('misspelt keys', () => {
    const errors = typeErrors([
      ...wrong('api.yaml', 'readOnlyRootFilesystem', 'readOnlyRootFileSystem'),
      ...wrong('worker.yaml', 'pollingInterval', 'poolingInterval'),
      ...wrong('network.yaml', 'podSelector', 'podSelektor'),
    ])
    for (const key of ['readOnlyRootFileSystem', 'poolingInterval', 'podSelektor']) expect(errors).toContain(key)
  })
})

const components = ['api', 'worker'] as const
type Component = (typeof components)[number]
const labelsOf = (component: Component) => ({
  'app.kubernetes.io/name': 'spillway',
  'app.kubernetes.io/component': component,
})
const podOf = (component: Component): Manifest => get('Deployment', `spillway-${component}`).spec.template.spec
const containerOf = (component: Component): Manifest => podOf(component).containers[0]
/** The port by its name. */
const portOf = (component: Component, name: string): number =>
  containerOf(component).ports.find((port: Manifest) => port.name === name)?.containerPort ??
  expect.unreachable(`${component} has no port ${name}`)

const secret = {
  DATABASE_URL: 'mysql://spillway:secret@mysql:3306/spillway',
  QUEUE_URL: 'rediss://queue:6379',
  CACHE_URL: 'redis://cache:6379',
}

/** What Spillway makes of the environment that a pod gets, with the secrets somewhere else. */
function configOf(component: Component): Config {
  const environment: Record<string, string> = Object.assign(
    { NODE_ENV: 'production' },
    ...containerOf(component).envFrom.map((from: Manifest) => get('ConfigMap', from.configMapRef.name).data),
  )
  const { mountPath } = containerOf(component).volumeMounts.find((mount: Manifest) => mount.name === 'secrets')
  for (const [name, value] of Object.entries(secret)) {
    expect(environment[`${name}_FILE`]).toBe(`${mountPath}/${name}`)
    environment[`${name}_FILE`] = join(secretsDir, name)
    writeFileSync(join(secretsDir, name), `${value}\n`)
  }
  return readConfig(environment, {})
}

describe.each(components)('%s', (component) => {
  test('has settings that Spillway accepts, secrets by file, and the port it says', () => {
    const config = configOf(component)
    expect(config).toMatchObject({
      host: '0.0.0.0',
      databaseUrl: secret.DATABASE_URL,
      queueUrl: secret.QUEUE_URL,
      cacheUrl: secret.CACHE_URL,
      // A probe calls a pod by its address.
      allowedHosts: [],
    })
    if (component === 'api') expect(config.port).toBe(portOf('api', 'http'))
    else expect(config.workerPort).toBe(portOf('worker', 'metrics'))
    expect(containerOf(component).env, 'all of it comes from config maps').toBeUndefined()
  })

  test('is one deployment whose selector, budget, spread and policy mean its own pods', () => {
    const labels = labelsOf(component)
    const { spec } = get('Deployment', `spillway-${component}`)
    expect(spec.template.metadata.labels).toEqual(labels)
    expect(spec.selector.matchLabels).toEqual(labels)
    expect(spec.replicas, 'the autoscaler says how many').toBeUndefined()
    expect(get('PodDisruptionBudget', `spillway-${component}`).spec).toEqual({
      maxUnavailable: 1,
      selector: { matchLabels: labels },
    })
    expect(get('NetworkPolicy', `spillway-${component}`).spec.podSelector.matchLabels).toEqual(labels)
    const spread = podOf(component).topologySpreadConstraints
    expect(spread.map((constraint: Manifest) => constraint.topologyKey)).toEqual([
      'topology.kubernetes.io/zone',
      'kubernetes.io/hostname',
    ])
    for (const { labelSelector } of spread) expect(labelSelector.matchLabels).toEqual(labels)
  })

  test('runs what the image has, as the user of the image', () => {
    expect(containerOf(component).image).toBe(kustomization.images[0].name)
    const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8')
    expect(dockerfile).toMatch(/^USER node$/m)
    const { command } = containerOf(component)
    if (component === 'api') expect(command, 'the API is what the image runs by default').toBeUndefined()
    else {
      expect(existsSync(join(root, command.at(-1)))).toBe(true)
      const [main] = /CMD (\[.*\])\s*$/.exec(dockerfile)!.slice(1)
      expect(command.slice(0, -1)).toEqual(JSON.parse(main!).slice(0, -1))
    }
  })

  test('is asked whether it lives and whether it can work, on a port it has', () => {
    const { startupProbe, livenessProbe, readinessProbe } = containerOf(component)
    for (const [probe, path] of [
      [startupProbe, '/livez'],
      [livenessProbe, '/livez'],
      [readinessProbe, '/readyz'],
    ]) {
      expect(probe.httpGet.path).toBe(path)
      portOf(component, probe.httpGet.port)
    }
    // Asking the queue may take two seconds; see src/redis/connection.ts.
    expect(readinessProbe.timeoutSeconds).toBeGreaterThan(2)
  })

  test('has the time to stop', () => {
    const before = containerOf(component).lifecycle?.preStop.sleep.seconds ?? 0
    // Spillway gives up by itself after 9.5 s.
    expect(podOf(component).terminationGracePeriodSeconds).toBeGreaterThan(before + 10)
  })

  test('has no rights, cannot change its own files, and is bounded in memory', () => {
    const { securityContext, automountServiceAccountToken, enableServiceLinks, volumes } = podOf(component)
    expect(securityContext).toEqual({
      runAsNonRoot: true,
      runAsUser: 1000,
      runAsGroup: 1000,
      fsGroup: 1000,
      seccompProfile: { type: 'RuntimeDefault' },
    })
    expect(automountServiceAccountToken).toBe(false)
    expect(enableServiceLinks).toBe(false)
    const { securityContext: locked, resources, volumeMounts } = containerOf(component)
    expect(locked).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    })
    expect(resources.limits.memory).toBeDefined()
    expect(resources.requests.cpu).toBeDefined()
    expect(resources.requests.memory).toBeDefined()
    const mounted = volumeMounts.map((mount: Manifest) => mount.name).sort()
    expect(mounted).toEqual(volumes.map((volume: Manifest) => volume.name).sort())
    expect(volumes[0].secret.defaultMode).toBe(0o440)
    expect(get('Namespace', 'spillway').metadata.labels['pod-security.kubernetes.io/enforce']).toBe('restricted')
  })

  test('has a memory limit above what the process may take', () => {
    const mebibytes = 1024 * Number(/^(\d+)Gi$/.exec(containerOf(component).resources.limits.memory)![1])
    // Node's heap takes half of a container's memory; see "Memory" in docs/operations.md.
    expect(mebibytes / 2 + 384).toBeLessThan(mebibytes)
    expect(mebibytes).toBeGreaterThanOrEqual(1024)
  })

  test('lets in only on its own port, and out only to what the settings name', () => {
    const { ingress, egress, policyTypes } = get('NetworkPolicy', `spillway-${component}`).spec
    expect(policyTypes).toEqual(['Ingress', 'Egress'])
    for (const { from, ports } of ingress) {
      expect(from.length).toBeGreaterThan(0)
      for (const { port } of ports) portOf(component, port)
    }
    const out = egress.flatMap(({ ports }: Manifest) => ports.map(({ port }: Manifest) => port))
    const { databaseUrl, queueUrl, auth } = configOf(component)
    for (const url of [databaseUrl, queueUrl]) expect(out).toContain(Number(new URL(url).port))
    expect(out.includes(443)).toBe(auth.jwksUrl !== undefined)
  })
})

test('the API asks for tokens, the worker says aloud that it does not (P10)', () => {
  expect(configOf('api').auth).toMatchObject({ jwksUrl: expect.stringMatching(/^https:/), audience: 'spillway' })
  const worker = get('ConfigMap', 'spillway-worker').data
  expect(worker.AUTH).toBe('none')
  expect(() => readConfig({ ...worker, AUTH: undefined }, {})).toThrow(ConfigError)
  expect(
    all('Service').map(({ metadata }) => metadata.name),
    'nobody is led to a worker',
  ).toEqual(['spillway-api'])
})

test('no secret is in the repository', () => {
  expect(all('Secret')).toEqual([])
  for (const { data } of all('ConfigMap')) {
    for (const name of Object.keys(data)) expect(name).not.toMatch(/SECRET|PASSWORD|(DATABASE|QUEUE|CACHE)_URL$/)
  }
  expect(files.map(text).join()).not.toMatch(/\/\/[^/\s]*:[^/\s]*@/)
})

test('the service leads to the port of the API', () => {
  const { selector, ports } = get('Service', 'spillway-api').spec
  expect(selector).toEqual(labelsOf('api'))
  for (const { targetPort } of ports) portOf('api', targetPort)
})

test('each deployment has one autoscaler: the API by its processors, the worker by the age of the oldest save', () => {
  const hpa = get('HorizontalPodAutoscaler', 'spillway-api').spec
  expect(get(hpa.scaleTargetRef.kind, hpa.scaleTargetRef.name).apiVersion).toBe(hpa.scaleTargetRef.apiVersion)
  expect(hpa.metrics[0].resource.name).toBe('cpu')
  const keda = get('ScaledObject', 'spillway-worker').spec
  get('Deployment', keda.scaleTargetRef.name)
  const [{ metadata }] = keda.triggers
  expect(metricsIn(metadata.query)).toEqual([{ metric: 'spillway_queue_oldest_age_seconds', labels: ['namespace'] }])
  expect(metadata.query).toContain(`"${kustomization.namespace}"`)
  for (const [least, most] of [
    [hpa.minReplicas, hpa.maxReplicas],
    [keda.minReplicaCount, keda.maxReplicaCount],
  ]) {
    expect(least, 'one may be taken away').toBeGreaterThan(1)
    expect(most).toBeGreaterThan(least)
  }
  expect(all('HorizontalPodAutoscaler').length + all('ScaledObject').length).toBe(all('Deployment').length)
})

test('the image is of this version', () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  expect(kustomization.images).toEqual([{ name: 'spillway', newName: expect.any(String), newTag: version }])
})

test('Prometheus in a cluster finds the pods by what they are called here', () => {
  const scrape = readFileSync(join(root, 'deploy/prometheus/kubernetes.yml'), 'utf8')
  // Debian's Prometheus is built without Kubernetes' discovery; the rest it can check.
  const config = scrape.replace(/kubernetes_sd_configs:\n\s+- role: pod/, 'static_configs: [{ targets: [pod] }]')
  expect(config).not.toBe(scrape)
  const path = join(secretsDir, 'kubernetes.yml')
  writeFileSync(path, config)
  const { ok, output } = promtool('check', 'config', '--syntax-only', path)
  expect(ok, output).toBe(true)
  const { relabel_configs: rules } = parse(scrape).scrape_configs[0]
  const ask = (label: string) =>
    rules.find((rule: Manifest) => rule.source_labels[0] === `__meta_kubernetes_${label}`) as Manifest
  expect(ask('pod_label_app_kubernetes_io_name').regex).toBe(labelsOf('api')['app.kubernetes.io/name'])
  expect(ask('pod_container_port_name').regex.split('|')).toEqual([
    containerOf('api').ports[0].name,
    containerOf('worker').ports[0].name,
  ])
  const jobs: Manifest[] = parse(readFileSync(join(root, 'deploy/prometheus/prometheus.yml'), 'utf8')).scrape_configs
  const { target_label, replacement } = ask('pod_label_app_kubernetes_io_component')
  expect(target_label).toBe('job')
  expect(components.map((component) => replacement.replace('$1', component))).toEqual(jobs.map((job) => job.job_name))
})
