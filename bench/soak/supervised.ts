/** A process of Spillway that is started again whenever it ends, as a supervisor of a machine would. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type SpillwayProcess, spawnSpillway } from '../../test/harness/process.ts'

const restartAfterMs = 200

export class Supervised {
  readonly name: string
  /** Ends that no fault caused. */
  readonly failures: string[] = []
  readonly #start: () => Promise<SpillwayProcess>
  #process: SpillwayProcess | undefined
  #isKilled = false
  #isStopping = false
  #running: Promise<void> | undefined

  private constructor(name: string, start: () => Promise<SpillwayProcess>) {
    this.name = name
    this.#start = start
  }

  /** Resolves when it is ready. */
  static async start(
    name: string,
    role: 'api' | 'worker',
    env: Record<string, string>,
    tree: string,
  ): Promise<Supervised> {
    const one = new Supervised(name, () => spawnSpillway(role, env, { tree }))
    const first = await one.#start()
    one.#running = one.#supervise(first)
    return one
  }

  /** Undefined while it is not ready. */
  get pid(): number | undefined {
    return this.#process?.pid
  }

  async #supervise(first: SpillwayProcess): Promise<void> {
    for (let current: SpillwayProcess | undefined = first; ; current = await this.#startAgain()) {
      if (this.#isStopping) {
        current?.kill('SIGKILL')
        await current?.exited
        return
      }
      if (!current) continue
      this.#process = current
      const exit = await current.exited
      this.#process = undefined
      if (!this.#isKilled && !this.#isStopping)
        this.failures.push(`${this.name} ended with ${exit}: ${current.logs().slice(-2_000)}`)
      this.#isKilled = false
    }
  }

  async #startAgain(): Promise<SpillwayProcess | undefined> {
    if (this.#isStopping) return undefined
    await sleep(restartAfterMs)
    return await this.#start().catch((error: Error) => {
      this.failures.push(error.message.slice(0, 2_000))
      return undefined
    })
  }

  /** It is started again. */
  kill(): void {
    this.#isKilled = this.#process !== undefined
    this.#process?.kill('SIGKILL')
  }

  /** Freezes it for a while: its connections stay open. */
  async freeze(ms: number): Promise<void> {
    const frozen = this.#process
    frozen?.kill('SIGSTOP')
    await sleep(ms)
    frozen?.kill('SIGCONT')
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    this.#process?.kill('SIGKILL')
    await this.#running
  }
}
