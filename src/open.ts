/**
 * The one place that names implementations: each setting's URL picks one. `stack` closes everything that is opened here, in reverse order.
 */
import type { MessagePort } from 'node:worker_threads'
import type { Cache } from './cache/cache.ts'
import { MemoryCache, SharedVersions } from './cache/memory.ts'
import { RedisCache, RedisVersions } from './cache/redis.ts'
import { describeUrl, filePath, storeName } from './config/urls.ts'
import type { Config } from './config.ts'
import type { Clients } from './db/dialect.ts'
import { PrismaStore } from './db/prisma.ts'
import { SqliteFile } from './embedded/file.ts'
import type { EventLog } from './events/events.ts'
import { RedisEventLog } from './events/redis.ts'
import { SqliteEventLog } from './events/sqlite.ts'
import type { Log } from './model/log.ts'
import type { Models } from './model/model.ts'
import type { Tracer } from './model/tracer.ts'
import type { Queue } from './queue/queue.ts'
import { RedisQueue } from './queue/redis.ts'
import { ShardedQueue } from './queue/sharded.ts'
import { SqliteQueue } from './queue/sqlite.ts'
import { parseRedisUrl, type RedisAddress } from './redis/address.ts'

export interface OpenDeps {
  log: Log
  stack: AsyncDisposableStack
}

export const isEmbedded = ({ queueUrl }: Pick<Config, 'queueUrl'>): boolean => queueUrl.startsWith('file:')

/** How long a command waits for Redis. */
const commandWaitMs = 3_000

type QueueConfig = Pick<
  Config,
  | 'queueUrl'
  | 'queueShards'
  | 'queueReplicas'
  | 'eventsUrl'
  | 'queueCapacity'
  | 'eventsRetentionMs'
  | 'eventsRetentionBytes'
>

/**
 * The queue and the events log; `file` is set where both are embedded. `storeUrl` is the store that this
 * process writes messages to, if it does. `onUnfit` is called when the queue may lose saves (its Redis evicts
 * keys), or when this process has lost it for good.
 */
export async function openQueue(
  {
    log,
    stack,
    models,
    storeUrl,
    onUnfit = () => {},
  }: OpenDeps & { models: Models; storeUrl?: string; onUnfit?: (error: Error) => void },
  config: QueueConfig,
): Promise<{ queue: Queue; events: EventLog; file?: SqliteFile }> {
  const { queueUrl, queueShards: shards, queueCapacity: capacity, queueReplicas: replicas } = config
  const { eventsRetentionMs: retentionMs, eventsRetentionBytes: retentionBytes } = config
  if (isEmbedded(config)) {
    const store = storeUrl === undefined ? undefined : storeName(storeUrl)
    const file = await SqliteFile.open(filePath(queueUrl), { capacity, retentionMs, retentionBytes, store, log })
    stack.defer(() => file.close())
    file.failed.catch(onUnfit)
    return { ...connectQueue({ stack, models }, { queuePort: file.connect(), eventsPort: file.connect() }), file }
  }
  const queue = openShards(parseRedisUrl(queueUrl), { shards, capacity, replicas, log, onEvicting: onUnfit })
  stack.defer(() => queue.close())
  const events = new RedisEventLog(eventsAddress(config), {
    retentionMs,
    retentionBytes,
    models,
    log,
    shards,
    replicas,
  })
  stack.defer(() => events.close())
  return { queue, events }
}

/** The address of the events log; named by the setting that it comes from. */
function eventsAddress({ queueUrl, eventsUrl }: Pick<Config, 'queueUrl' | 'eventsUrl'>): RedisAddress {
  return parseRedisUrl(eventsUrl, eventsUrl === queueUrl ? 'QUEUE_URL' : 'EVENTS_URL')
}

/** With one shard, too, it is a queue of shards: another process may use more of them, or may have used more before. */
function openShards(
  address: RedisAddress,
  {
    shards,
    capacity,
    ...options
  }: { shards: number; capacity: number; replicas: number; log: Log; onEvicting: (error: Error) => void },
): ShardedQueue {
  const open = (shard: number) => {
    // Shards of another number of shards get no new messages from here.
    const part = shard < shards ? Math.ceil((capacity - shard) / shards) : 0
    const named = shards === 1 && shard === 0 ? {} : { shard }
    return new RedisQueue(address, { ...options, ...named, capacity: part })
  }
  return new ShardedQueue(open, { shards, log: options.log })
}

/** Ports to the thread that owns the embedded queue's file. */
export interface QueuePorts {
  queuePort: MessagePort
  eventsPort: MessagePort
}

/** The embedded queue and events log, over ports that `SqliteFile.connect` returned; any thread may use them. */
export function connectQueue(
  { stack, models }: Pick<OpenDeps, 'stack'> & { models: Models },
  { queuePort, eventsPort }: QueuePorts,
) {
  const queue = new SqliteQueue(queuePort)
  stack.defer(() => queue.close())
  const events = new SqliteEventLog(eventsPort, { models })
  stack.defer(() => events.close())
  return { queue, events }
}

/** The queue alone, for a command: waits for Redis, for a bounded time. */
export async function openQueueAlone(deps: OpenDeps, config: QueueConfig): Promise<Queue> {
  const { queue } = await openQueue({ ...deps, models: new Map() }, config)
  if (queue instanceof ShardedQueue) await queue.whenReady(commandWaitMs)
  return queue
}

type CacheConfig = Pick<Config, 'cacheUrl' | 'cacheTtlMs' | 'queueUrl' | 'eventsUrl'>

export const sharedVersionsBytes = SharedVersions.bytes

/** `sharedVersions` holds the versions of the pages where the API and its worker are threads of one process. */
export function openCache(
  { log, stack, sharedVersions }: OpenDeps & { sharedVersions?: SharedArrayBuffer },
  { cacheUrl, cacheTtlMs: ttlMs, queueUrl, eventsUrl }: CacheConfig,
): Cache {
  if (cacheUrl !== 'memory:') {
    return stack.adopt(new RedisCache(parseRedisUrl(cacheUrl, 'CACHE_URL'), { ttlMs, log }), (cache) => cache.close())
  }
  // Workers in other processes invalidate the pages in this process' memory: the versions are in the Redis of the events, which they all
  // reach. Each page that an API sends reads them, which is load that the queue's Redis has not.
  const versions = isEmbedded({ queueUrl })
    ? new SharedVersions(sharedVersions)
    : new RedisVersions(eventsAddress({ queueUrl, eventsUrl }), { log })
  return stack.adopt(new MemoryCache({ ttlMs, versions }), (cache) => cache.close())
}

type StoreConfig = Pick<Config, 'databaseUrl' | 'databaseReadUrl' | 'workerConcurrency'>

export function openStore(
  { log, stack, models, clients }: OpenDeps & { models: Models; clients: Clients },
  config: StoreConfig,
): PrismaStore {
  const { databaseUrl: url, databaseReadUrl: readUrl, workerConcurrency: concurrency } = config
  return stack.adopt(new PrismaStore({ url, readUrl, concurrency, models, clients, log }), (store) => store.close())
}

/** Undefined where no traces are wanted; OpenTelemetry is imported only where they are. Opened first, so that it closes last and sends the
 *  spans that end while the rest closes. */
export async function openTracer(
  { log, stack }: OpenDeps,
  { traces, queueUrl, databaseUrl }: Pick<Config, 'traces' | 'queueUrl' | 'databaseUrl'>,
): Promise<Tracer | undefined> {
  if (!traces) return undefined
  const { OtelTracer } = await import('./telemetry/otel.ts')
  const queue = isEmbedded({ queueUrl }) ? 'sqlite' : 'redis'
  const store = databaseUrl.startsWith('file:') ? 'sqlite' : 'mysql'
  return stack.adopt(new OtelTracer({ ...traces, queue, store, log }), (tracer) => tracer.close())
}

/** The store, the queue, the events log where it is apart, and the cache in use, for the log. */
export function describeImplementations({
  databaseUrl,
  queueUrl,
  eventsUrl,
  cacheUrl,
}: Pick<Config, 'databaseUrl' | 'queueUrl' | 'eventsUrl' | 'cacheUrl'>) {
  return {
    store: describeUrl(databaseUrl),
    queue: describeUrl(queueUrl),
    ...(eventsUrl !== queueUrl && { events: describeUrl(eventsUrl) }),
    cache: describeUrl(cacheUrl),
  }
}
