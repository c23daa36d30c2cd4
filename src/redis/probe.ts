/** Proves that Spillway's scripts can write to their keys, without an effect (lua/probe.lua). */
import { readFileSync } from 'node:fs'
import type { Redis } from 'ioredis'

const script = readFileSync(new URL('lua/probe.lua', import.meta.url), 'utf8')

export interface Proof {
  /** A key of the probe's own, besides the keys to prove. */
  own: string
  /** The types of the keys, by their names. */
  keys: Record<string, 'stream' | 'hash' | 'zset' | 'list'>
  /** Whether the writes must work on a full server, too. */
  always: boolean
  channel?: string
}

/** The code of what cannot be done; undefined if everything can. */
export async function prove(client: Redis, { own, keys, always, channel = '' }: Proof): Promise<string | undefined> {
  if (!('spillProbe' in client)) client.defineCommand('spillProbe', { lua: script })
  const names = Object.keys(keys)
  const args = [names.length + 1, own, ...names, always ? 'always' : 'room', channel, ...Object.values(keys)]
  // Proves EVAL: a script that the server does not know yet is sent whole.
  await client.eval('return 1', 1, own)
  const { spillProbe } = client as Redis & { spillProbe(...args: (string | number)[]): Promise<[code: string] | null> }
  return (await spillProbe.apply(client, args))?.[0]
}
