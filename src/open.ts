/**
 * The one place that names implementations: each setting's URL picks one, and only that one is imported, because the drivers of Redis and
 * MySQL are a large part of a start. `stack` closes everything that is opened here, in reverse order.
 */
import type { MessagePort } from 'node:worker_threads'
import type { Cache } from './cache/cache.ts'
import { MemoryCache, SharedVersions } from './cache/memory.ts'
import { describeUrl, filePath, storeName } from './config/urls.ts'
import type { Config } from './config.ts'
import type { Clients } from './db/dialect.ts'
import { PrismaStore } from './db/prisma.ts'
import type { SqliteFile } from './embedded/file.ts'
import type { EventLog } from './events/events.ts'
import type { Log } from './model/log.ts'
import type { Models } from './model/model.ts'
import type { Tracer } from './model/tracer.ts'
import type { Queue } from './queue/queue.ts'
import type { ShardedQueue } from './queue/sharded.ts'
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

interface QueueDeps extends OpenDeps {
  models: Models
  /** The store that this process writes messages to, if it does. */
  storeUrl?: string
  /** Called when the queue may lose saves (its Redis evicts keys), or when this process has lost it for good. */
  onUnfit?: (error: Error) => void
}

/** The queue and the events log; `file` is set where both are embedded. */
export async function openQueue(
  deps: QueueDeps,
  config: QueueConfig,
): Promise<{ queue: Queue; events: EventLog; file?: SqliteFile }> {
  return isEmbedded(config) ? await openEmbedded(deps, config) : await openOnRedis(deps, config)
}

async function openEmbedded({ log, stack, models, storeUrl, onUnfit = () => {} }: QueueDeps, config: QueueConfig) {
  const {
    queueUrl,
    queueCapacity: capacity,
    eventsRetentionMs: retentionMs,
    eventsRetentionBytes: retentionBytes,
  } = config
  const { SqliteFile } = await import('./embedded/file.ts')
  const store = storeUrl === undefined ? undefined : storeName(storeUrl)
  const file = await SqliteFile.open(filePath(queueUrl), { capacity, retentionMs, retentionBytes, store, log })
  stack.defer(() => file.close())
  file.failed.catch(onUnfit)
  const ports = { queuePort: file.connect(), eventsPort: file.connect() }
  return { ...(await connectQueue({ stack, models }, ports)), file }
}

async function openOnRedis({ log, stack, models, onUnfit = () => {} }: QueueDeps, config: QueueConfig) {
  const { queueUrl, queueShards: shards, queueCapacity: capacity, queueReplicas: replicas } = config
  const { eventsRetentionMs: retentionMs, eventsRetentionBytes: retentionBytes } = config
  const { RedisEventLog } = await import('./events/redis.ts')
  const queue = await openShards(parseRedisUrl(queueUrl), { shards, capacity, replicas, log, onEvicting: onUnfit })
  stack.defer(() => queue.close())
  const options = { retentionMs, retentionBytes, models, log, shards, replicas }
  const events = new RedisEventLog(eventsAddress(config), options)
  stack.defer(() => events.close())
  return { queue, events }
}

/** The address of the events log; named by the setting that it comes from. */
function eventsAddress({ queueUrl, eventsUrl }: Pick<Config, 'queueUrl' | 'eventsUrl'>): RedisAddress {
  return parseRedisUrl(eventsUrl, eventsUrl === queueUrl ? 'QUEUE_URL' : 'EVENTS_URL')
}

/** With one shard, too, it is a queue of shards: another process may use more of them, or may have used more before. */
async function openShards(
  address: RedisAddress,
  {
    shards,
    capacity,
    ...options
  }: { shards: number; capacity: number; replicas: number; log: Log; onEvicting: (error: Error) => void },
): Promise<ShardedQueue> {
  const [{ RedisQueue }, { ShardedQueue }] = await Promise.all([
    import('./queue/redis.ts'),
    import('./queue/sharded.ts'),
  ])
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
export async function connectQueue(
  { stack, models }: Pick<OpenDeps, 'stack'> & { models: Models },
  { queuePort, eventsPort }: QueuePorts,
) {
  const [{ SqliteQueue }, { SqliteEventLog }] = await Promise.all([
    import('./queue/sqlite.ts'),
    import('./events/sqlite.ts'),
  ])
  const queue = new SqliteQueue(queuePort)
  stack.defer(() => queue.close())
  const events = new SqliteEventLog(eventsPort, { models })
  stack.defer(() => events.close())
  return { queue, events }
}

/** The queue alone, for a command: waits for Redis, for a bounded time. */
export async function openQueueAlone(deps: OpenDeps, config: QueueConfig): Promise<Queue> {
  const queueDeps = { ...deps, models: new Map() }
  if (isEmbedded(config)) return (await openEmbedded(queueDeps, config)).queue
  const { queue } = await openOnRedis(queueDeps, config)
  await queue.whenReady(commandWaitMs)
  return queue
}

type CacheConfig = Pick<Config, 'cacheUrl' | 'cacheTtlMs' | 'queueUrl' | 'eventsUrl'>

export const sharedVersionsBytes = SharedVersions.bytes

/** `sharedVersions` holds the versions of the pages where the API and its worker are threads of one process. */
export async function openCache(
  { log, stack, sharedVersions }: OpenDeps & { sharedVersions?: SharedArrayBuffer },
  { cacheUrl, cacheTtlMs: ttlMs, queueUrl, eventsUrl }: CacheConfig,
): Promise<Cache> {
  const inMemory = cacheUrl === 'memory:'
  if (inMemory && isEmbedded({ queueUrl })) {
    const versions = new SharedVersions(sharedVersions)
    return stack.adopt(new MemoryCache({ ttlMs, versions }), (cache) => cache.close())
  }
  const { RedisCache, RedisVersions } = await import('./cache/redis.ts')
  if (!inMemory) {
    return stack.adopt(new RedisCache(parseRedisUrl(cacheUrl, 'CACHE_URL'), { ttlMs, log }), (cache) => cache.close())
  }
  // Workers in other processes invalidate the pages in this process' memory: the versions are in the Redis of the events, which they all
  // reach. Each page that an API sends reads them, which is load that the queue's Redis has not.
  const versions = new RedisVersions(eventsAddress({ queueUrl, eventsUrl }), { log })
  return stack.adopt(new MemoryCache({ ttlMs, versions }), (cache) => cache.close())
}

type StoreConfig = Pick<Config, 'databaseUrl' | 'databaseReadUrl' | 'workerConcurrency'>

export async function openStore(
  { log, stack, models, clients }: OpenDeps & { models: Models; clients: Clients },
  config: StoreConfig,
): Promise<PrismaStore> {
  const { databaseUrl: url, databaseReadUrl: readUrl, workerConcurrency: concurrency } = config
  const store = await PrismaStore.open({ url, readUrl, concurrency, models, clients, log })
  return stack.adopt(store, () => store.close())
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
