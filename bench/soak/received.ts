/** The messages that one subscriber has received: all of a run, or those of its room. */
import { NumberSet } from './number-set.ts'

export class Received {
  events = 0
  /** Events of messages that it had received before. */
  repeated = 0
  readonly #numbers = new NumberSet()
  readonly #rooms: number
  readonly #room: number

  /** Without a room, it is of all of them. */
  constructor(rooms: number, room?: number) {
    this.#rooms = room === undefined ? 1 : rooms
    this.#room = room ?? 0
  }

  /** Throws where the message is of another room. */
  add(n: number): void {
    if (n % this.#rooms !== this.#room) throw new Error(`message ${n} is not of room ${this.#room} of ${this.#rooms}`)
    this.events += 1
    if (!this.#numbers.add(this.#indexOf(n))) this.repeated += 1
  }

  /** How many of the messages 0 to `total - 1` it lacks; those of `without` need not be there. */
  missed(total: number, without: readonly number[]): number {
    const all = Math.max(0, Math.ceil((total - this.#room) / this.#rooms))
    const excused = without.filter((n) => n % this.#rooms === this.#room && !this.#numbers.has(this.#indexOf(n)))
    return all - excused.length - this.#numbers.size
  }

  /** Its own messages, without the spaces between. */
  #indexOf(n: number): number {
    return (n - this.#room) / this.#rooms
  }
}
