/** The history on Redis: a hash beside the events log. All times are the server's, so that the clocks of the processes do not matter. */
import type { Redis } from 'ioredis'
import type { RedisConnection } from '../redis/connection.ts'
import { scriptOf } from '../redis/script.ts'
import { addEveryMs, type BucketCounts, bucketsOf, type HistoryStore, mostBytes, type Ring, rings } from './history.ts'

type Scripts = Redis & { spillAddHistory(...args: (string | number)[]): Promise<string> }

const addScript = scriptOf(new URL('lua/add-history.lua', import.meta.url))
const ringArgs = Object.values(rings).flatMap(({ name, widthMs, length }) => [name, widthMs, length])

export class RedisHistory implements HistoryStore {
  readonly #connection: RedisConnection
  readonly #key: string

  constructor(connection: RedisConnection, key: string) {
    this.#connection = connection
    this.#key = key
    connection.client.defineCommand('spillAddHistory', { numberOfKeys: 1, lua: addScript })
  }

  async add(counts: BucketCounts): Promise<number> {
    const args = [JSON.stringify(counts), addEveryMs, mostBytes, ...ringArgs]
    return Number(await this.#connection.ask((client) => (client as Scripts).spillAddHistory(this.#key, ...args)))
  }

  async read(ring: Ring) {
    const fields = Array.from({ length: ring.length }, (_, slot) => `${ring.name}:${slot}`)
    const [[seconds, micros], texts] = await this.#connection.read((client) =>
      Promise.all([client.time(), client.hmget(this.#key, ...fields)]),
    )
    const now = Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000)
    return { now, buckets: bucketsOf(texts, now, ring) }
  }
}
