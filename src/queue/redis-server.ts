/** Reads the settings and the state of the queue's Redis: how durable it is, whether it evicts keys, how much memory it has left. */
import type { Redis } from 'ioredis'
import { SpillwayError } from '../model/error.ts'
import { retryAfterMs } from '../redis/connection.ts'
import type { Durability } from './queue.ts'
import { record } from './redis-scripts.ts'

/** Part of maxmemory. Saves are refused above it, so that the workers can still write. */
const fullAt = 0.9

export interface ServerState {
  durability: Durability
  /** The policy by which it evicts keys; undefined if it evicts none, or does not answer. */
  evicts: string | undefined
  /** It uses so much of its maxmemory that the workers' writes might soon fail. */
  nearlyFull: boolean
  /** The commands that the user may not run: INFO, CONFIG. */
  hidden: string[]
  /** How many replicas are connected and have confirmed something lately; undefined if the server was not asked, or does not answer. */
  replicas: number | undefined
  /** It can wait until replicas have a write on their disks: Redis 7.2 or newer, or Valkey, with appendonly yes. */
  hasWaitAof: boolean
}

/** As Redis' own min-replicas-max-lag has it by default. */
const replicaSilenceS = 10

/**
 * Returns what is certain of the server. A server whose user may run neither INFO nor CONFIG counts as MEMORY. `asksReplicas`: the caller
 * waits for replicas, and so has to know about them.
 */
export async function readServer(client: Redis, asksReplicas = false): Promise<ServerState> {
  const hidden = new Set<string>()
  const orHidden =
    <T>(name: string, instead: T) =>
    (error: Error) => {
      // The command is not permitted, or renamed. Errors of the connection are thrown.
      if (error.name !== 'ReplyError') throw error
      hidden.add(name)
      return instead
    }
  const patterns = ['append*', 'no-appendfsync-on-rewrite', 'maxmemory*']
  const [memory, persistence, replication, hasWaitAof, ...settings] = await Promise.all([
    client.info('memory').catch(orHidden('INFO', '')),
    client.info('persistence').catch(orHidden('INFO', '')),
    asksReplicas ? client.info('replication').catch(orHidden('INFO', '')) : '',
    asksReplicas && canWaitAof(client),
    ...patterns.map((name) =>
      client.config('GET', name).then((found) => record(found as string[]), orHidden('CONFIG', {})),
    ),
  ])
  const found: Record<string, string | undefined> = Object.assign({}, ...settings)
  const aof = { 0: 'no', 1: 'yes' }[infoField(persistence, 'aof_enabled') ?? '']
  const policy = infoField(memory, 'maxmemory_policy') ?? found['maxmemory-policy']
  const used = Number(infoField(memory, 'used_memory') ?? 0)
  const most = Number(infoField(memory, 'maxmemory') ?? 0)
  return {
    durability: durabilityOf(found.appendonly ?? aof, found.appendfsync, found['no-appendfsync-on-rewrite']),
    evicts: policy === undefined || policy === 'noeviction' ? undefined : policy,
    nearlyFull: most > 0 && used > most * fullAt,
    hidden: [...hidden],
    replicas: replication === '' ? undefined : countReplicas(replication),
    hasWaitAof,
  }
}

function countReplicas(replication: string): number {
  const lags = replication.matchAll(/^slave\d+:.*\bstate=online\b.*\blag=(\d+)/gm)
  return [...lags].filter(([, lag]) => Number(lag) <= replicaSilenceS).length
}

/** Tries it: whether it works depends on the server's release, its settings and the user's rights. It waits for no replica. */
async function canWaitAof(client: Redis): Promise<boolean> {
  try {
    await client.call('WAITAOF', 1, 0, 1)
    return true
  } catch (error) {
    if ((error as Error).name !== 'ReplyError') throw error
    return false
  }
}

function durabilityOf(appendonly = 'no', appendfsync = 'everysec', relaxed?: string): Durability {
  if (appendonly !== 'yes' || appendfsync === 'no') return 'MEMORY'
  // With "yes" there is no fsync while the file is rewritten, even under "always". If CONFIG is hidden, it may be "yes".
  return appendfsync === 'always' && relaxed === 'no' ? 'FSYNC' : 'EVERYSEC'
}

function infoField(info: string, name: string): string | undefined {
  return new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1]
}

export function evicting(policy: string): SpillwayError {
  return new SpillwayError(
    'QUEUE_UNAVAILABLE',
    `The queue's Redis evicts keys when its memory is full (maxmemory-policy is ${policy}), acknowledged saves among them. Set maxmemory-policy noeviction, or use another instance.`,
    { retryAfterMs },
  )
}

/** Returns why the server must not be given saves now; undefined if there is no reason. */
export function refusalOf(state: ServerState | undefined): SpillwayError | undefined {
  if (state?.evicts) return evicting(state.evicts)
  if (!state?.nearlyFull) return undefined
  return new SpillwayError('QUEUE_FULL', "The queue's Redis is close to its memory limit; try again shortly.", {
    retryAfterMs,
  })
}
