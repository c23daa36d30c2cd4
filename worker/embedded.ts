/** The worker of an embedded queue: a thread of the API's process, so that writing to a SQLite file does not block the API's event loop. */
import { getPriority, setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import type { Config } from '../src/config.ts'
import type { Clients } from '../src/db/dialect.ts'
import { limitColumns, listModels } from '../src/model/define.ts'
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import type { Model } from '../src/model/model.ts'
import { sleep } from '../src/model/sleep.ts'
import { connectQueue, openCache, openStore, openTracer, type QueuePorts } from '../src/open.ts'
import { describeErrors } from '../src/telemetry/log-errors.ts'
import { startWorking } from './working.ts'

export interface EmbeddedData extends QueuePorts {
  config: Config
  /** See Given. */
  modelsUrl: string
  /** See openCache. */
  sharedVersions: SharedArrayBuffer
}

/** From this thread to the API's. */
export interface EmbeddedMessage {
  /** The worker works, or waits for the database. */
  ready?: true
  stage?: Parameters<Meter['stage']>
  committed?: Parameters<Meter['committed']>
  deadLettered?: Parameters<Meter['deadLettered']>
  published?: Parameters<Meter['published']>
  storeWaiting?: Parameters<Meter['storeWaiting']>
  parked?: Parameters<Meter['parked']>
  /** For the process' log, which is bounded and counts the lines it drops. */
  log?: { level: 'info' | 'warn' | 'error'; fields: object; message: string }
}

/** How long the thread waits for the database before it reports that it is ready. */
const storeWaitMs = 1_000

const { config, modelsUrl, sharedVersions, ...ports } = workerData as EmbeddedData
// Where cores are scarce, enqueueing has priority over persisting, which can wait. On Linux setPriority changes this thread alone, elsewhere
// the whole process. The priority is only lowered: raising it may be forbidden.
if (process.platform === 'linux') setPriority(Math.min(19, getPriority() + 10))
const send = (message: EmbeddedMessage) => parentPort!.postMessage(message)
// The API's thread has the metrics and the log.
const meter: Meter = {
  ...noMeter,
  stage: (...args) => send({ stage: args }),
  committed: (...args) => send({ committed: args }),
  deadLettered: (...args) => send({ deadLettered: args }),
  published: (...args) => send({ published: args }),
  storeWaiting: (...args) => send({ storeWaiting: args }),
  parked: (...args) => send({ parked: args }),
}
const at = (level: 'info' | 'warn' | 'error') => (fields: object, message: string) =>
  send({ log: { level, fields: describeErrors(fields), message } })
const log: Log = { info: at('info'), warn: at('warn'), error: at('error') }
const silent: Log = { info() {}, warn() {}, error() {} }

const stack = new AsyncDisposableStack()
const ending = new AbortController()
const { signal } = ending
// Silent: the API sends traces to the same endpoint, and warns where it does not answer.
const tracer = await openTracer({ log: silent, stack }, config)
const given: { models: readonly Model[]; prisma: Clients } = await import(modelsUrl)
const models = limitColumns(listModels(given.models), config.contentMaxBytes)
const cache = await openCache({ log, stack, sharedVersions }, config)
const { queue, events } = await connectQueue({ stack, models }, ports)
const store = await openStore({ log, stack, models, clients: given.prisma }, config)
const { failed, preparing } = startWorking(
  { models, queue, events, cache, store, meter, tracer, log, stack, signal },
  config,
)
parentPort!.on('message', async () => {
  ending.abort()
  await stack.disposeAsync()
  parentPort!.close()
})
// The rejection is not caught: it ends the thread, and with it the process.
failed.catch((error) => {
  throw error
})
await Promise.race([failed, preparing.catch(() => {}), sleep(storeWaitMs, signal)])
send({ ready: true })
