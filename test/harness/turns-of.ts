/** How long a Spillway computes without turning its event loop (see turns.ts), and what it uses of the processor, asked from outside. */
import { readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { SpillwayProcess } from './process.ts'

export class Turns {
  readonly #file: string

  private constructor(file: string) {
    this.#file = file
  }

  static async make(): Promise<Turns> {
    return new Turns(join(await mkdtemp(join(tmpdir(), 'spillway-turns-')), 'longest'))
  }

  /** The environment of the process that is measured. */
  env(heapMb: number): Record<string, string> {
    const preload = fileURLToPath(new URL('./turns.ts', import.meta.url))
    return { NODE_OPTIONS: `--max-old-space-size=${heapMb} --import=${preload}`, TURNS_FILE: this.#file }
  }

  /** From now on is measured. */
  mark(process: SpillwayProcess): void {
    process.kill('SIGUSR2')
  }

  /** CPU time of the longest turn since then, in ms, which a busy machine does not change. */
  async longestMs(): Promise<number> {
    return Number(await readFile(this.#file, 'utf8'))
  }

  remove(): Promise<void> {
    return rm(dirname(this.#file), { recursive: true, force: true })
  }
}

/** What a process has used of the processor, all its threads, in ms. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const [user = 0, system = 0] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number)
  return (user + system) * 10
}
