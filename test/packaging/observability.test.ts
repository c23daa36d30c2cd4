/**
 * deploy/prometheus and deploy/grafana: that promtool is content, that each alert fires when it should and not else, that what they ask
 * for is what Spillway tells, and that a real Prometheus, scraping a real Spillway, has a line for every panel. Grafana itself does not
 * run here.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { Bytes } from '../../src/app/bytes.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { boot } from '../harness/boot.ts'
import { freePort } from '../harness/daemon.ts'
import { holds } from '../harness/eventually.ts'
import { root } from '../harness/imports.ts'
import { promtool, startPrometheus } from '../harness/prometheus.ts'
import { SseClient } from '../harness/sse.ts'
import { groupedBy, metricsIn } from './promql.ts'

const read = (name: string) => readFileSync(join(root, 'deploy', name), 'utf8')
const file = (name: string) => join(root, 'deploy', name)

interface Rule {
  alert: string
  expr: string
  labels: { severity: string }
  annotations: { summary: string; runbook: string }
}

interface Target {
  expr: string
  legendFormat: string
  datasource: { uid: string }
}

interface Panel {
  id: number
  title: string
  type: string
  gridPos: { x: number; y: number; w: number; h: number }
  targets?: Target[]
}

const rules: Rule[] = parse(read('prometheus/alerts.yml')).groups.flatMap((group: { rules: Rule[] }) => group.rules)
const dashboard = JSON.parse(read('grafana/dashboards/spillway.json'))
const panels: Panel[] = dashboard.panels
const graphs = panels.filter(({ type }) => type !== 'row')
const expressions = graphs.flatMap(({ title, targets }) => targets!.map(({ expr }) => ({ title, expr })))
/** As Grafana would send it, with all jobs chosen. */
const sent = (expr: string, interval: string) => expr.replaceAll('$__rate_interval', interval).replaceAll('$job', '.+')

const dir = mkdtempSync(join(tmpdir(), 'spillway-promtool-'))
afterAll(() => rmSync(dir, { recursive: true }))

/** What Spillway's own code tells: metric -> its labels. */
async function told(): Promise<Map<string, Set<string>>> {
  const metrics = new Metrics(['Content'])
  metrics.watchSubscribers(() => ({ sse: 1 }))
  metrics.watchLog(() => 1)
  metrics.watchBytes(new Bytes())
  metrics.watchQueue({
    status: async () => ({
      depth: 1,
      inFlight: 1,
      oldestAgeMs: 1,
      deadLetters: 1,
      capacity: 1,
      durability: 'REPLICATED',
      replicas: { required: 1, connected: 1, unconfirmed: 0 },
      shards: [{ shard: 0, code: undefined }],
    }),
  })
  metrics.enqueued('Content', 1, 1)
  metrics.rejected('Content', 1, 'QUEUE_FULL')
  metrics.cacheRequest('Content', 'hit')
  metrics.delivered(1)
  metrics.stage('insert', 1)
  metrics.committed('Content', 1, 1)
  const found = new Map<string, Set<string>>()
  for (const [, name, labels = ''] of (await metrics.text()).matchAll(/^(\w+)(\{.*\})? \S+$/gm)) {
    const known = found.get(name!) ?? new Set()
    for (const [, label] of labels.matchAll(/(\w+)="/g)) known.add(label!)
    found.set(name!, known)
  }
  return found
}

/** What Prometheus adds by itself, or by its configuration. */
const added = { metrics: ['up'], labels: ['job', 'instance', 'namespace'] }

async function unknownIn(expr: string): Promise<string[]> {
  const spillway = await told()
  const named = metricsIn(expr)
  if (named.length === 0) return ['it names no metric']
  const all = new Set(named.flatMap(({ metric }) => [...(spillway.get(metric) ?? [])]).concat(added.labels))
  return [
    ...named.flatMap(({ metric, labels }) => {
      if (added.metrics.includes(metric)) return []
      const known = spillway.get(metric)
      if (!known) return [metric]
      return labels
        .filter((label) => !known.has(label) && !added.labels.includes(label))
        .map((label) => `${metric}{${label}}`)
    }),
    ...groupedBy(expr)
      .filter((label) => !all.has(label))
      .map((label) => `by (${label})`),
  ]
}

test('promtool takes the configuration and the rules', () => {
  for (const args of [
    ['check', 'config', file('prometheus/prometheus.yml')],
    ['check', 'rules', file('prometheus/alerts.yml')],
  ]) {
    const { ok, output } = promtool(...args)
    expect(ok, output).toBe(true)
  }
})

test('each alert fires when it should, and not before', () => {
  const { ok, output } = promtool('test', 'rules', file('prometheus/alerts.test.yml'))
  expect(ok, output).toBe(true)
  const cases: { alertname: string; exp_alerts?: object[] }[] = parse(read('prometheus/alerts.test.yml')).tests.flatMap(
    (each: { alert_rule_test: object[] }) => each.alert_rule_test,
  )
  const names = (fires: boolean) => [
    ...new Set(cases.filter(({ exp_alerts }) => (exp_alerts !== undefined) === fires).map((each) => each.alertname)),
  ]
  const all = rules.map(({ alert }) => alert).sort()
  expect(names(true).sort()).toEqual(all)
  expect(names(false).sort()).toEqual(all)
})

test.each([
  ['the limit', '> 0.8', '> 0.99'],
  ['the time', 'for: 1m\n        labels: { severity: warning }', 'for: 9m\n        labels: { severity: warning }'],
  ['the label', 'result="unavailable"', 'result="hit"'],
])('the tests of the alerts notice when %s is another', (_, right, wrong) => {
  const text = read('prometheus/alerts.yml')
  expect(text).toContain(right)
  writeFileSync(join(dir, 'alerts.yml'), text.replace(right, wrong))
  writeFileSync(join(dir, 'alerts.test.yml'), read('prometheus/alerts.test.yml'))
  expect(promtool('check', 'rules', join(dir, 'alerts.yml')).ok).toBe(true)
  expect(promtool('test', 'rules', join(dir, 'alerts.test.yml')).ok).toBe(false)
})

test.each(rules)('$alert asks for what there is, and says what to do', async ({ alert, expr, labels, annotations }) => {
  expect(await unknownIn(expr)).toEqual([])
  expect(['warning', 'critical']).toContain(labels.severity)
  const [path, anchor] = annotations.runbook.split('#')
  const headings = [...readFileSync(join(root, path!), 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
  expect(headings).toContain(anchor)
  expect(readFileSync(join(root, path!), 'utf8')).toContain(alert)
})

test('alerts and the dashboard compare the label `result` only with values that the code counts', () => {
  const meter = readFileSync(join(root, 'src/model/meter.ts'), 'utf8')
  const counted = [...meter.match(/cacheRequest\((.*)\)/)![1]!.matchAll(/'(\w+)'/g)].map(([, result]) => result!)
  const compared = [...rules.map(({ expr }) => expr), ...expressions.map(({ expr }) => expr)].flatMap((expr) =>
    [...expr.matchAll(/result="(\w+)"/g)].map(([, result]) => result!),
  )
  expect(compared.length).toBeGreaterThan(2)
  expect(compared.filter((result) => !counted.includes(result))).toEqual([])
})

describe('the dashboard', () => {
  test('asks only for what there is', async () => {
    expect(expressions.length).toBeGreaterThan(25)
    for (const { title, expr } of expressions) expect(await unknownIn(expr), title).toEqual([])
    expect(await unknownIn(dashboard.templating.list[0].definition.replace(/label_values\((.*), job\)/, '$1'))).toEqual(
      [],
    )
  })

  test('shows every metric of Spillway', async () => {
    const shown = new Set(expressions.flatMap(({ expr }) => metricsIn(expr).map(({ metric }) => metric)))
    const base = (name: string) => name.replace(/_(bucket|sum|count)$/, '')
    const bases = new Set([...shown].map(base))
    const ours = [...(await told()).keys()].filter((name) => name.startsWith('spillway_')).map(base)
    expect(ours.length).toBeGreaterThan(15)
    expect([...new Set(ours)].filter((name) => !bases.has(name))).toEqual([])
  })

  test('is PromQL throughout', () => {
    const recording = expressions.map(({ expr }, i) => ({ record: `panel:${i}`, expr: sent(expr, '1m') }))
    writeFileSync(join(dir, 'panels.yml'), stringify({ groups: [{ name: 'panels', rules: recording }] }))
    const { ok, output } = promtool('check', 'rules', join(dir, 'panels.yml'))
    expect(ok, output).toBe(true)
    expect(sent(expressions.map(({ expr }) => expr).join(), '1m'), 'a variable that nobody fills in').not.toContain('$')
  })

  test('has panels with an id and a place of their own, a title and the one data source', () => {
    expect(dashboard).toMatchObject({ uid: 'spillway', title: 'Spillway', refresh: '5s' })
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)} ${y + Math.floor(i / w)}`),
    )
    expect(new Set(cells).size, 'panels overlap').toBe(cells.length)
    for (const { x, w } of panels.map(({ gridPos }) => gridPos)) expect(x + w).toBeLessThanOrEqual(24)
    const [source] = parse(read('grafana/provisioning/datasources/prometheus.yml')).datasources
    for (const { title, targets } of graphs) {
      expect(title).not.toBe('')
      for (const { datasource, legendFormat } of targets!) {
        expect(datasource.uid, title).toBe(source.uid)
        expect(legendFormat, title).not.toBe('')
      }
    }
    expect(dashboard.templating.list[0].datasource.uid).toBe(source.uid)
  })
})

describe('an expression that is wrong is found out:', () => {
  test.each([
    ['a misspelt metric', 'max(spilway_queue_depth)', ['spilway_queue_depth']],
    ['a metric that is no histogram', 'rate(spillway_queue_depth_bucket[1m])', ['spillway_queue_depth_bucket']],
    ['the histogram itself', 'rate(spillway_batch_rows[1m])', ['spillway_batch_rows']],
    ['a label it does not have', 'spillway_subscribers{kind="sse"}', ['spillway_subscribers{kind}']],
    ['a group by a label it does not have', 'sum by (kind) (spillway_subscribers)', ['by (kind)']],
    ['no metric', 'vector(1)', ['it names no metric']],
  ])('%s', async (_, expr, problems) => {
    expect(await unknownIn(expr)).toEqual(problems)
  })
})

test('a Prometheus that scrapes a running Spillway has a line for every panel', { timeout: 90_000 }, async () => {
  const workerPort = await freePort()
  const system = await boot('redis + mariadb', { env: { WORKER_PORT: String(workerPort) }, workers: 1 })
  const config = parse(read('prometheus/prometheus.yml'))
  const targets: Record<string, string> = {
    'spillway-api': new URL(system.url).host,
    'spillway-worker': `127.0.0.1:${workerPort}`,
  }
  const prometheus = await startPrometheus({
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
    rule_files: [file('prometheus/alerts.yml')],
    scrape_configs: config.scrape_configs.map(({ job_name }: { job_name: string }) => ({
      job_name,
      static_configs: [{ targets: [targets[job_name]] }],
    })),
  })
  const subscriber = await SseClient.open(system.url, 'subscription { saved { content { id } } }')
  try {
    const empty = new Set(expressions.map(({ expr }) => expr))
    await holds(
      async () => {
        await system.client.graphql('mutation { save(content: "something", waitMs: 5000) { status } }')
        await system.client.graphql('{ contents(first: 1) { edges { node { id } } } }')
        const id = crypto.randomUUID()
        const { body } = await system.client.graphql(
          'mutation ($id: ID!) { saveMany(inputs: [{ id: $id, content: "one" }, { id: $id, content: "other" }]) { saveId } }',
          { id },
        )
        expect(body.errors[0].extensions.code).toBe('ID_CONFLICT')
        for (const expr of empty) if ((await prometheus.query(sent(expr, '5s'))).length > 0) empty.delete(expr)
        expect([...empty]).toEqual([])
      },
      { timeoutMs: 60_000, intervalMs: 300 },
    )
    expect(await prometheus.query('sum(up)')).toEqual([2])
    // Nothing is wrong with this one.
    expect(await prometheus.query('ALERTS{alertstate="firing"}')).toEqual([])
  } finally {
    subscriber.close()
    await Promise.all([prometheus.cleanup(), system.stop()])
  }
})
