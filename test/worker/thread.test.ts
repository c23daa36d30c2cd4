/** The embedded worker's thread: behind the saves, and without a right that it may not have. */
import { readdir, readFile } from 'node:fs/promises'
import { getPriority } from 'node:os'
import { expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { spawnSpillway } from '../harness/process.ts'

test('it alone of all threads steps back, from wherever the process is', async () => {
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

/** Field 19, counted behind the name, which may hold anything: proc_pid_stat(5). */
function niceOf(stat: string): number {
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16])
}
