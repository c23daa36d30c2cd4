/** The worker of an embedded queue, as a thread of the API's process. */
import { getPriority, setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { type EmbeddedData, type EmbeddedMessage, startEmbedded } from '../src/start.ts'
import { describeErrors } from '../src/telemetry/log-errors.ts'

const data = workerData as EmbeddedData
// Where there are too few cores for all, saves are accepted first: what is accepted can wait. On Linux this is the thread's own priority,
// and elsewhere it would be that of the whole process. Only ever downwards: upwards may be forbidden.
if (process.platform === 'linux') setPriority(Math.min(19, getPriority() + 10))
const tell = (message: EmbeddedMessage) => parentPort!.postMessage(message)
// What it counts is counted by the process: the metrics are there, and so is the log.
const meter: Meter = {
  ...noMeter,
  stage: (...args) => tell({ stage: args }),
  committed: (...args) => tell({ committed: args }),
  storeWaiting: (...args) => tell({ storeWaiting: args }),
  parked: (...args) => tell({ parked: args }),
}
const at = (level: 'info' | 'warn' | 'error') => (fields: object, message: string) =>
  tell({ log: { level, fields: describeErrors(fields), message } })
const log: Log = { info: at('info'), warn: at('warn'), error: at('error') }
const running = await startEmbedded(data, meter, log)
// Not to be caught: an error here ends the thread, and the process with it.
running.failed.catch((error) => {
  throw error
})
parentPort!.on('message', async () => {
  await running.close()
  parentPort!.close()
})
tell({ ready: true })
