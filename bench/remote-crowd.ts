/** A crowd in a process of its own: one process has not enough file descriptors, nor time, for the largest crowds. */
import { type ChildProcess, fork } from 'node:child_process'
import type { Crowd, CrowdOptions, CrowdState } from './crowd.ts'

type Method = 'restart' | 'quiet' | 'received' | 'state'

export interface Call {
  id: number
  method: Method | 'open'
  args: readonly unknown[]
}

export interface Answer {
  id: number
  value?: unknown
  error?: string
}

const main = new URL('crowd-process.ts', import.meta.url)

export class RemoteCrowd implements Crowd {
  readonly size: number
  readonly pid: number
  readonly #child: ChildProcess
  readonly #calls = new Map<number, PromiseWithResolvers<unknown>>()
  #lastId = 0

  private constructor(size: number) {
    this.size = size
    this.#child = fork(main, { serialization: 'advanced' })
    this.pid = this.#child.pid!
    this.#child.on('message', ({ id, value, error }: Answer) => {
      const call = this.#calls.get(id)!
      this.#calls.delete(id)
      if (error === undefined) call.resolve(value)
      else call.reject(new Error(error))
    })
    this.#child.on('exit', (code, signal) => {
      for (const call of this.#calls.values())
        call.reject(new Error(`the process of the subscribers ended with ${signal ?? code}`))
    })
  }

  static async open(options: CrowdOptions): Promise<RemoteCrowd> {
    const crowd = new RemoteCrowd(options.size)
    try {
      await crowd.#call('open', options)
      return crowd
    } catch (error) {
      crowd.close()
      throw error
    }
  }

  async #call(method: Call['method'], ...args: unknown[]): Promise<unknown> {
    const id = ++this.#lastId
    const call = Promise.withResolvers<unknown>()
    this.#calls.set(id, call)
    this.#child.send({ id, method, args } satisfies Call)
    return await call.promise
  }

  async restart(): Promise<void> {
    await this.#call('restart')
  }

  async quiet(): Promise<void> {
    await this.#call('quiet')
  }

  async received(bytes: number, timeoutMs: number): Promise<number> {
    return (await this.#call('received', bytes, timeoutMs)) as number
  }

  async state(): Promise<CrowdState> {
    return (await this.#call('state')) as CrowdState
  }

  close(): void {
    this.#child.kill()
  }
}

/** Several crowds as one. */
export class CrowdGroup implements Crowd {
  readonly size: number
  readonly #crowds: readonly Crowd[]

  private constructor(crowds: readonly Crowd[]) {
    this.#crowds = crowds
    this.size = crowds.reduce((sum, { size }) => sum + size, 0)
  }

  /** Where one cannot be opened, none stays open. */
  static async open(opening: readonly Promise<Crowd>[]): Promise<CrowdGroup> {
    const crowds = await Promise.allSettled(opening)
    const group = new CrowdGroup(crowds.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : [])))
    const failed = crowds.find((one) => one.status === 'rejected')
    if (!failed) return group
    group.close()
    throw failed.reason
  }

  async restart(): Promise<void> {
    await Promise.all(this.#crowds.map((one) => one.restart()))
  }

  async quiet(): Promise<void> {
    await Promise.all(this.#crowds.map((one) => one.quiet()))
  }

  async received(bytes: number, stalledMs: number): Promise<number> {
    return Math.max(...(await Promise.all(this.#crowds.map((one) => one.received(bytes, stalledMs)))))
  }

  async state(): Promise<CrowdState> {
    const states = await Promise.all(this.#crowds.map((one) => one.state()))
    return {
      least: Math.min(...states.map(({ least }) => least)),
      most: Math.max(...states.map(({ most }) => most)),
      dropped: states.reduce((sum, { dropped }) => sum + dropped, 0),
    }
  }

  close(): void {
    for (const crowd of this.#crowds) crowd.close()
  }
}
