/** Accepting without any server: SQLite for the queue and for the store, the worker in the same process, draining meanwhile. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../client.ts'
import { startSpillway } from '../contender.ts'
import { checkGraphqlSave, graphqlSaves } from '../save.ts'
import type { Scenario } from '../scenario.ts'

export const embedded: Scenario = {
  name: 'embedded',
  title: 'embedded accept, durable, 64 connections',
  figure: 'rate',
  unit: '/s',
  note: 'One process: SQLite with synchronous=FULL, GraphQL save, the worker draining into another SQLite file meanwhile.',
  profile: true,
  contenders: [
    {
      name: 'Spillway, embedded',
      role: 'ours',
      start: async ({ pace: { seconds, warmUpSeconds } }, execArgv) => {
        const dir = await mkdtemp(join(tmpdir(), 'spillway-bench-'))
        const env = {
          NODE_ENV: 'production',
          DATABASE_URL: `file:${dir}/spillway.db`,
          QUEUE_URL: `file:${dir}/queue.db`,
        }
        const { url, stop } = await startSpillway('api', env, execArgv)
        const requests = graphqlSaves(url)
        return {
          async measure() {
            const load = { url, connections: 64, requests, check: checkGraphqlSave, seconds, warmUpSeconds }
            const { rate, errors, latency } = await run(load)
            await drained(url)
            return { rate, p50: latency.quantile(0.5), p99: latency.quantile(0.99), errors }
          },
          stop: async () => {
            await stop()
            await rm(dir, { recursive: true, force: true })
          },
        }
      },
    },
  ],
  targets: [{ figure: 'rate', unit: '/s', atLeast: 15_000 }],
}

export async function drained(url: string): Promise<void> {
  const request = {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"query":"{ queue { depth } }"}',
  }
  for (;;) {
    const { data } = (await (await fetch(`${url}/graphql`, request)).json()) as { data: { queue: { depth: number } } }
    if (data.queue.depth === 0) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
