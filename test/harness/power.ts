/** A power cut, as far as one can be had without pulling the plug: what was not fsynced is taken away from a killed Redis' file. */
import { execFileSync } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { find } from './binaries.ts'
import type { TestRedis } from './redis.ts'

export interface Power {
  /** For the Redis that is to be cut off. */
  env: NodeJS.ProcessEnv
  /** SIGKILL, then every byte that was not fsynced is gone; then it starts again. How many bytes that were. */
  cut(redis: TestRedis): Promise<number>
  cleanup(): Promise<void>
}

export async function watchPower(): Promise<Power> {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-power-'))
  const library = join(dir, 'fsync-spy.so')
  const source = fileURLToPath(new URL('fsync-spy.c', import.meta.url))
  execFileSync(compiler(), ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl'])
  const spy = join(dir, 'fsyncs')
  return {
    env: { LD_PRELOAD: library, FSYNC_SPY: spy },
    cut: async (redis) => {
      await redis.stop('SIGKILL')
      let gone = 0
      const sizes = await lastSynced(spy)
      const folder = join(redis.dir, 'appendonlydir')
      for (const name of await readdir(folder)) {
        // The base and the manifest are made whole, under another name, and renamed.
        if (!name.endsWith('.incr.aof')) continue
        const path = join(folder, name)
        const synced = sizes.get(path) ?? 0
        const { size } = await stat(path)
        if (size <= synced) continue
        gone += size - synced
        await truncate(path, synced)
      }
      await redis.restart()
      return gone
    },
    cleanup: () => rm(dir, { recursive: true, force: true }),
  }
}

/**
 * Lets the files of a running process grow no further than so many bytes each: to it, a full disk. It has to ignore SIGXFSZ, as Node
 * does, and as fsync-spy.c makes Redis do. Undefined: as far as they like.
 */
export function limitFiles(pid: number, bytes: number | undefined): void {
  execFileSync('prlimit', ['--pid', String(pid), `--fsize=${bytes ?? 'unlimited'}:unlimited`])
}

/** The append-only file that a Redis writes to. */
export async function appendOnlyFile(redis: TestRedis): Promise<string> {
  const dir = join(redis.dir, 'appendonlydir')
  const files = (await readdir(dir)).filter((name) => name.endsWith('.incr.aof'))
  const number = (name: string) => Number(name.split('.').at(-3))
  return join(dir, files.sort((a, b) => number(a) - number(b)).at(-1)!)
}

async function lastSynced(spy: string): Promise<Map<string, number>> {
  const sizes = new Map<string, number>()
  for (const line of (await readFile(spy, 'utf8')).split('\n')) {
    const [, size, path] = /^(\d+) (.+)$/.exec(line) ?? []
    if (path) sizes.set(path, Number(size))
  }
  return sizes
}

function compiler(): string {
  const found = find('cc', 'gcc', 'clang')
  if (found) return found
  const install = ['install', '-y', '--no-install-recommends', 'gcc', 'libc6-dev']
  if (process.getuid?.() !== 0 || !find('apt-get')) {
    throw new Error(`this test needs a C compiler. Debian, Ubuntu: sudo apt-get ${install.join(' ')}`)
  }
  console.log(`The power cut needs a C compiler. Installing it: apt-get ${install.join(' ')}`)
  execFileSync('apt-get', install, { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }, stdio: 'ignore' })
  return 'cc'
}
