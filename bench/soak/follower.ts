/**
 * A subscriber that comes and goes: it is connected for a while, away for a while, and subscribes again with its last cursor. It remembers
 * every message that it received, so that at the end it can tell which ones it missed.
 */
import { type Feed, Subscriber, type Wire } from '../../test/harness/subscriber.ts'
import { numberOf, roomOf } from './messages.ts'
import { NumberSet } from './number-set.ts'

const connectedMs = [10_000, 60_000] as const
const awayMs = [100, 15_000] as const
/** After an attempt to connect, before the next one. */
const retryMs = [200, 2_000] as const

const between = ([least, most]: readonly [number, number]) => least + Math.random() * (most - least)

export interface Following {
  wire: Wire
  urls: readonly string[]
  prefix: string
  rooms: number
  /** Undefined: it follows all rooms. */
  room: number | undefined
  /** The cursor that it begins with. */
  after: string
}

export class Follower {
  events = 0
  /** Events of messages that it had received before, with a later cursor: P4 promises each event at least once. */
  repeated = 0
  readonly #numbers = new NumberSet()
  readonly #following: Following
  readonly #subscriber: Subscriber
  #connectFrom = 0
  #timer: NodeJS.Timeout | undefined

  constructor(following: Following) {
    const { wire, urls, prefix, room, rooms, after } = following
    this.#following = following
    let turn = Math.floor(Math.random() * urls.length)
    const where = () => {
      const now = performance.now()
      if (now < this.#connectFrom) return undefined
      this.#connectFrom = now + between(retryMs)
      return urls[turn++ % urls.length]
    }
    this.#subscriber = new Subscriber(wire, after, where, room === undefined ? allRooms : feedOf(roomOf(room, rooms)))
    this.#subscriber.keeps = false
    this.#subscriber.onEvent = (id) => {
      const n = numberOf(id, prefix)
      if (n === undefined) return
      this.events += 1
      if (!this.#numbers.add(this.#indexOf(n))) this.repeated += 1
    }
    this.#subscriber.start()
    this.#leaveLater()
  }

  /** In which the server broke the order of cursors, or refused one. */
  get faults(): readonly string[] {
    return this.#subscriber.faults
  }

  get connections(): number {
    return this.#subscriber.connections
  }

  /** Does not leave any more. */
  stay(): void {
    clearTimeout(this.#timer)
  }

  /** How many of the messages below `total` it has not received; those of `without` were never published. */
  missed(total: number, without: readonly number[]): number {
    const { room, rooms } = this.#following
    const isMine = (n: number) => room === undefined || n % rooms === room
    const all = room === undefined ? total : Math.max(0, Math.ceil((total - room) / rooms))
    const unpublished = without.filter((n) => isMine(n) && !this.#numbers.has(this.#indexOf(n))).length
    return all - unpublished - this.#numbers.size
  }

  stop(): Promise<void> {
    this.stay()
    return this.#subscriber.stop()
  }

  /** Its own messages without the spaces between. */
  #indexOf(n: number): number {
    const { room, rooms } = this.#following
    return room === undefined ? n : (n - room) / rooms
  }

  #leaveLater(): void {
    const leave = () => {
      this.#connectFrom = performance.now() + between(awayMs)
      this.#subscriber.drop()
      this.#leaveLater()
    }
    this.#timer = setTimeout(leave, between(connectedMs))
  }
}

const read: Feed['read'] = ({ messageSaved }) => ({ cursor: messageSaved.cursor, id: messageSaved.message.id })

const allRooms: Feed = {
  query: 'subscription ($after: String) { messageSaved(after: $after) { cursor message { id } } }',
  read,
}

const feedOf = (room: string): Feed => ({
  query:
    'subscription ($room: String!, $after: String) { messageSaved(room: $room, after: $after) { cursor message { id } } }',
  variables: { room },
  read,
})
