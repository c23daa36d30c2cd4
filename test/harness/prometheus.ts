/** A Prometheus of a test's own, Debian's, and what its promtool says of files. */
import { spawnSync } from 'node:child_process'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { find, findPromtool, need } from './binaries.ts'
import { launch } from './child.ts'
import { type Daemon, startDaemon } from './daemon.ts'

export interface TestPrometheus extends Daemon {
  /** Values of an expression now, one for each series; those that are no number (0/0) are left out. */
  query(expression: string): Promise<number[]>
}

export async function startPrometheus(config: object): Promise<TestPrometheus> {
  const binary = need(find('prometheus'), 'prometheus')
  const dir = await mkdtemp(join(tmpdir(), 'spillway-prometheus-'))
  await writeFile(join(dir, 'prometheus.yml'), stringify(config))
  const daemon = await startDaemon({
    name: 'prometheus',
    dir,
    throwAway: true,
    launch: (port) =>
      launch(
        binary,
        [
          `--config.file=${dir}/prometheus.yml`,
          `--storage.tsdb.path=${dir}/data`,
          `--web.listen-address=127.0.0.1:${port}`,
        ],
        { throwAway: dir },
      ),
    ping: async (port) => {
      if (!(await fetch(`http://127.0.0.1:${port}/-/ready`)).ok) throw new Error('not ready')
    },
    readyMs: 30_000,
  })
  const query = async (expression: string): Promise<number[]> => {
    const answer = await fetch(
      `http://127.0.0.1:${daemon.port}/api/v1/query?${new URLSearchParams({ query: expression })}`,
    )
    const { data, error } = (await answer.json()) as {
      data?: { result: { value: [number, string] }[] }
      error?: string
    }
    if (!data) throw new Error(`${expression}: ${error}`)
    return data.result.map(({ value }) => Number(value[1])).filter((value) => !Number.isNaN(value))
  }
  return Object.defineProperty(daemon, 'query', { value: query }) as unknown as TestPrometheus
}

/** What promtool found, and whether it was content. */
export function promtool(...args: string[]): { ok: boolean; output: string } {
  const { status, stdout, stderr } = spawnSync(need(findPromtool(), 'promtool'), args, { encoding: 'utf8' })
  return { ok: status === 0, output: stdout + stderr }
}
