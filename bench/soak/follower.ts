/** A subscriber that comes and goes: it is connected for a while, away for a while, and subscribes again with its last cursor. */
import { Client } from '../../test/harness/client.ts'
import { type Feed, Subscriber, type Wire } from '../../test/harness/subscriber.ts'
import { numberOf, roomOf } from './messages.ts'
import { Received } from './received.ts'

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
  /** Called when its cursor has expired. */
  onExpired: (follower: Follower, cursor: string) => void
}

export class Follower {
  /** What it receives again has a later cursor: P4 promises each event at least once. */
  readonly received: Received
  readonly name: string
  readonly #subscriber: Subscriber
  #connectFrom = 0
  #timer: NodeJS.Timeout | undefined

  constructor(following: Following) {
    const { wire, urls, prefix, room, rooms, after, onExpired } = following
    this.name = `${room === undefined ? 'all rooms' : roomOf(room, rooms)} over ${wire}`
    this.received = new Received(rooms, room)
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
      if (n !== undefined) this.received.add(n)
    }
    this.#subscriber.readBack = async (url) => {
      onExpired(this, this.#subscriber.cursor)
      // The rows between are not read: they are gaps, since no cursor may expire in a run.
      return { savedCursor: await placeOfPage(url), ids: [] }
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

  stop(): Promise<void> {
    this.stay()
    return this.#subscriber.stop()
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

async function placeOfPage(url: string): Promise<string> {
  const { data } = await new Client(url).graphql('{ messages(first: 1) { savedCursor } }')
  return data.messages.savedCursor
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
