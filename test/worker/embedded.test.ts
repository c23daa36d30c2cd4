/** The embedded worker's thread: behind the saves, and without modules that it does not need. */
import { execFileSync } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { getPriority } from 'node:os'
import { expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { spawnSpillway } from '../harness/process.ts'

test('the thread of the embedded worker, and no other, lowers its priority by 10 from that of the process', async () => {
  const api = await spawnSpillway('api', {})
  try {
    const own = getPriority(api.pid)
    await holds(async () => {
      const tasks = `/proc/${api.pid}/task`
      const nices = await Promise.all(
        (await readdir(tasks)).map(async (task) => niceOf(await readFile(`${tasks}/${task}/stat`, 'utf8'))),
      )
      expect(nices.filter((nice) => nice !== own)).toEqual([Math.min(19, own + 10)])
    })
  } finally {
    api.kill('SIGTERM')
    expect(await api.exited).toBe(0)
  }
})

test('what a worker loads has neither GraphQL nor an HTTP server', () => {
  const start = new URL('../../src/start.ts', import.meta.url)
  const code = `
    import { registerHooks } from 'node:module'
    registerHooks({ load(url, context, next) { console.log(url); return next(url, context) } })
    await import(${JSON.stringify(start.href)})`
  const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', code]
  const loaded = execFileSync(process.execPath, args, { encoding: 'utf8' }).split('\n')
  expect(loaded).toContain(start.href)
  expect(loaded).toContain(new URL('../../worker/worker.ts', import.meta.url).href)
  const api = /\/node_modules\/(graphql|graphql-yoga|@pothos|@graphql-tools|zod|jose)\/|\/src\/(server|graphql|app)\//
  expect(loaded.filter((url) => api.test(url))).toEqual([])
})

/** Field 19 of proc_pid_stat(5), counted after the name, which may contain anything. */
function niceOf(stat: string): number {
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16])
}
