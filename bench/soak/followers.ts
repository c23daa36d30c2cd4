/** The subscribers of the soak, in a process of their own: they take nothing of the turns of the process that measures the saves. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { Following } from './follower.ts'

export interface Crowd extends Omit<Following, 'wire' | 'room' | 'onExpired'> {
  /** Each follows a room of its own; as many follow all rooms. */
  ofRooms: number
  ofAll: number
}

export interface Finish {
  total: number
  without: readonly number[]
}

export interface Answer {
  events: number
  /** Subscriptions that were opened. */
  connections: number
  repeated: number
  /** Messages that one of them missed, of all of them. */
  gaps: number
  /** Who missed how much, and ways in which the server broke the order of cursors or refused one: the first of each. */
  faults: readonly string[]
  /** Of the latter, how many there were. */
  faulty: number
}

const main = new URL('follower-process.ts', import.meta.url)

export class Followers {
  readonly pid: number
  readonly #child: ChildProcess
  readonly #ended: Promise<never>

  constructor() {
    this.#child = fork(main, { execArgv: ['--disable-warning=ExperimentalWarning'] })
    this.pid = this.#child.pid!
    this.#ended = once(this.#child, 'exit').then(([code, signal]) => {
      throw new Error(`the process of the subscribers ended with ${signal ?? code}`)
    })
    // It is thrown by the next question.
    this.#ended.catch(() => {})
  }

  /** Resolves when each of them has been connected once. */
  async start(crowd: Crowd): Promise<void> {
    await this.#ask(crowd)
  }

  /** Waits until they have received all, or nothing arrives any more. */
  async finish(finish: Finish): Promise<Answer> {
    return (await this.#ask(finish)) as Answer
  }

  async #ask(question: Crowd | Finish): Promise<unknown> {
    const answer = once(this.#child, 'message').then(([value]) => value)
    // Where the process has ended, so has the channel.
    this.#child.send(question, () => {})
    return await Promise.race([answer, this.#ended])
  }

  stop(): void {
    this.#child.kill('SIGKILL')
  }
}
