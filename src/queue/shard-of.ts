/**
 * The shard of an id. Invariant: it depends on the id and on the number of shards alone, so that every process asks the same shard. The last
 * 16 bits of a UUID are random; an API process sets them in the ids that it makes itself.
 */
const idBits = 16

/** The shard of the id, of so many. */
export function shardOf(id: string, shards: number): number {
  const bits = Number.parseInt(id.slice(-idBits / 4), 16)
  // Ids are UUIDs; another program's may be any text.
  return (Number.isNaN(bits) ? id.length : bits) % shards
}

/** The id with its last bits changed so that its shard is `shard`. The other bits of them stay random. */
export function withShard(id: string, shard: number, shards: number): string {
  const bits = Number.parseInt(id.slice(-idBits / 4), 16)
  const changed = bits - (bits % shards) + shard
  const inRange = changed < 2 ** idBits ? changed : changed - shards
  return id.slice(0, -idBits / 4) + inRange.toString(16).padStart(idBits / 4, '0')
}

/** A handle of an entry or a dead letter, with its shard in front: `2/1764284000000-0`. Shard 0, which may be the only one, is left out. */
export const withShardOf = (shard: number, handle: string): string => (shard === 0 ? handle : `${shard}/${handle}`)

/** The shard of a handle, and the shard's own handle. */
export function splitHandle(text: string): { shard: number; handle: string } {
  const end = text.indexOf('/')
  const shard = end > 0 && end < 3 ? Number(text.slice(0, end)) : 0
  return shard > 0 ? { shard, handle: text.slice(end + 1) } : { shard: 0, handle: text }
}

/** The values by their shards, in order. */
export function groupBy<T>(values: readonly T[], keyOf: (value: T) => number): Map<number, T[]> {
  const groups = new Map<number, T[]>()
  for (const value of values) {
    const key = keyOf(value)
    const group = groups.get(key)
    if (group) group.push(value)
    else groups.set(key, [value])
  }
  return groups
}
