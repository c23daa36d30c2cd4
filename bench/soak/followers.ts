/** The subscribers of the soak, in a process of their own: they take nothing of the turns of the process that measures the saves. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { Following } from './follower.ts'

export interface Crowd extends Omit<Following, 'wire' | 'room'> {
  /** Each follows a room of its own; as many follow all rooms. */
  ofRooms: number
  ofAll: number
}

export interface Finish {
  total: number
  without: readonly number[]
}

export interface Received {
  events: number
  /** Subscriptions that were opened. */
  connections: number
  repeated: number
  /** Messages that one of them missed, of all of them. */
  gaps: number
  /** Of the first messages about it. */
  faults: readonly string[]
  faulty: number
}

const main = new URL('follower-process.ts', import.meta.url)

export class Followers {
  readonly pid: number
  readonly #child: ChildProcess

  constructor(crowd: Crowd) {
    this.#child = fork(main, { execArgv: ['--disable-warning=ExperimentalWarning'] })
    this.pid = this.#child.pid!
    this.#child.send(crowd)
  }

  /** Waits until they have received all, or nothing arrives any more. */
  async finish(finish: Finish): Promise<Received> {
    const ended = once(this.#child, 'exit').then(([code, signal]) => {
      throw new Error(`the process of the subscribers ended with ${signal ?? code}`)
    })
    const received = once(this.#child, 'message').then(([answer]) => answer as Received)
    this.#child.send(finish)
    return await Promise.race([received, ended])
  }

  stop(): void {
    this.#child.kill('SIGKILL')
  }
}
