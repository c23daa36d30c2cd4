/**
 * The events of a log whose entries are references, with several shards: each shard keeps texts, one for a log entry, by random keys
 *
 *   {spillway:events:2}:KEY
 *
 * and the log itself, the sequencer, has only a reference for each. Invariants: a text is stored before its reference is appended; a reader
 * never skips a reference. A text lives at least as long as its reference, unless its shard has lost data: it is removed when its reference
 * was trimmed, and expires some time after that in any case.
 */
import { randomBytes } from 'node:crypto'
import type { Redis } from 'ioredis'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { isObject, parseJson } from '../model/parse.ts'
import { hashTag, type RedisAddress } from '../redis/address.ts'
import { RedisConnection } from '../redis/connection.ts'
import { prove } from '../redis/probe.ts'
import { scriptOf } from '../redis/script.ts'
import { ReplicaWait } from './replica-wait.ts'

export interface Reference {
  shard: number
  key: string
  /** The number of events. */
  count: number
  bytes: number
}

export interface BatchesOptions {
  /** Into how many shards new texts are put. Readers ask any shard that a reference names. */
  shards: number
  /** The address of each; by default all are behind the log's. */
  addressOf: (shard: number) => RedisAddress
  retentionMs: number
  /** How many replicas should have a text before its reference is appended. */
  replicas: number
  log: Log
  /** Called when a shard can be read again. */
  onReady: () => void
}

const putScript = scriptOf(new URL('lua/put.lua', import.meta.url))
/** How much longer than the retention a text lives: a log without new entries is not trimmed, and clocks differ. */
const spareMs = 600_000
/** How long a reader waits for a shard that it has just begun to connect to. */
const connectMs = 2_000

interface Shard {
  connection: RedisConnection
  wait: ReplicaWait
  tag: string
  /** Resolves when it was ready once, or after `connectMs`. */
  connected: Promise<boolean>
}

/** As it stands in the log: an object, where events are an array. */
export function encodeReference({ shard, key, count, bytes }: Reference): string {
  return JSON.stringify({ shard, key, count, bytes })
}

export const isReference = (text: string): boolean => text.startsWith('{')

/** Undefined if the text is damaged. */
export function decodeReference(text: string): Reference | undefined {
  const value = parseJson(text)
  if (!isObject(value)) return undefined
  const { shard, key, count, bytes } = value
  const numbers = [shard, count, bytes].every((n) => Number.isSafeInteger(n) && Number(n) >= 0)
  if (!numbers || Number(shard) > 63 || typeof key !== 'string') return undefined
  return { shard: Number(shard), key, count: Number(count), bytes: Number(bytes) }
}

export class Batches {
  readonly #options: BatchesOptions
  readonly #shards = new Map<number, Shard>()
  #next: number

  constructor(options: BatchesOptions) {
    this.#options = options
    this.#next = Math.floor(Math.random() * options.shards)
    // A worker puts texts into each of them; the first one must not wait for a connection.
    if (options.shards > 1) for (let shard = 0; shard < options.shards; shard += 1) this.#shard(shard)
  }

  #shard(index: number): Shard {
    let shard = this.#shards.get(index)
    if (!shard) {
      const address = this.#options.addressOf(index)
      const tag = hashTag(address, `events:${index}`)
      const { log, replicas, onReady } = this.#options
      const connection = new RedisConnection(address, {
        role: `events of shard ${index}`,
        tag,
        log,
        keeps: true,
        deadlineMs: 5_000,
      })
      connection.client.defineCommand('spillPut', { lua: putScript })
      connection.onReady(onReady)
      shard = { connection, wait: new ReplicaWait(replicas), tag, connected: connection.whenReady(connectMs) }
      this.#shards.set(index, shard)
    }
    return shard
  }

  /** Stores texts, durably, in one shard that can take them. Rejects as RedisConnection.ask does where none can. */
  async put(batches: readonly { text: string; count: number }[]): Promise<Reference[]> {
    const { shards } = this.#options
    let failure: unknown
    for (let tried = 0; tried < shards; tried += 1) {
      const shard = this.#next
      this.#next = (this.#next + 1) % shards
      try {
        return await this.#putInto(shard, batches)
      } catch (error) {
        if (!(error instanceof SpillwayError)) throw error
        failure = error
      }
    }
    throw failure
  }

  async #putInto(index: number, batches: readonly { text: string; count: number }[]): Promise<Reference[]> {
    const { connection, wait, tag } = this.#shard(index)
    const references = batches.map(({ text, count }) => ({
      shard: index,
      key: randomBytes(12).toString('base64url'),
      count,
      bytes: Buffer.byteLength(text),
    }))
    const keys = references.map(({ key }) => `${tag}:${key}`)
    const args = [keys.length, ...keys, this.#options.retentionMs + spareMs, ...batches.map(({ text }) => text)]
    await connection.ask(async (client) => {
      await (client as Redis & { spillPut(...args: (string | number)[]): Promise<number> }).spillPut(...args)
      await wait.confirm(client)
    })
    return references
  }

  /** The texts of references, in order; null for one that is lost, and the error of one whose shard does not answer. */
  async fetch(references: readonly Reference[]): Promise<(string | null | SpillwayError)[]> {
    const found = new Map<Reference, string | null | SpillwayError>()
    const byShard = Map.groupBy(references, ({ shard }) => shard)
    await Promise.all(
      [...byShard].map(async ([index, some]) => {
        const texts = await this.#fetchFrom(index, some)
        for (const [i, reference] of some.entries()) found.set(reference, Array.isArray(texts) ? texts[i]! : texts)
      }),
    )
    return references.map((reference) => found.get(reference) ?? null)
  }

  async #fetchFrom(index: number, references: readonly Reference[]): Promise<(string | null)[] | SpillwayError> {
    const { connection, tag, connected } = this.#shard(index)
    try {
      await connected
      return await connection.read((client) => client.mget(references.map(({ key }) => `${tag}:${key}`)))
    } catch (error) {
      if (error instanceof SpillwayError) return error
      throw error
    }
  }

  /** Removes texts whose references were trimmed. One that cannot be removed now expires. */
  remove(references: readonly Pick<Reference, 'shard' | 'key'>[]): void {
    for (const [index, some] of Map.groupBy(references, ({ shard }) => shard)) {
      const { connection, tag } = this.#shard(index)
      connection.ask((client) => client.unlink(...some.map(({ key }) => `${tag}:${key}`))).catch(() => {})
    }
  }

  /** The code of the first shard that is unavailable, where it is one that the texts of new entries may need; undefined if one can be
   *  written to. */
  async probe(): Promise<string | undefined> {
    const { shards } = this.#options
    if (shards === 1) return undefined
    const codes = await Promise.all(
      Array.from({ length: shards }, async (_, index) => {
        const { connection, tag } = this.#shard(index)
        const own = `${tag}:probe`
        const code = await connection.probe((client) => prove(client, { own, keys: {}, always: true }))
        return code === undefined ? undefined : `SHARD_${index} ${code}`
      }),
    )
    return codes.includes(undefined) ? undefined : codes[0]
  }

  close(): void {
    for (const { connection } of this.#shards.values()) connection.close()
  }
}
