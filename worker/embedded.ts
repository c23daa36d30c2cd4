/** The worker of an embedded queue: a thread in the API's process. */
import { getPriority, setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { type EmbeddedData, type EmbeddedMessage, startEmbedded } from '../src/start.ts'
import { describeErrors } from '../src/telemetry/log-errors.ts'

const data = workerData as EmbeddedData
// Where cores are scarce, enqueueing has priority over persisting, which can wait. On Linux setPriority changes this thread alone, elsewhere
// the whole process. The priority is only lowered: raising it may be forbidden.
if (process.platform === 'linux') setPriority(Math.min(19, getPriority() + 10))
const post = (message: EmbeddedMessage) => parentPort!.postMessage(message)
// The API's thread has the metrics and the log.
const meter: Meter = {
  ...noMeter,
  stage: (...args) => post({ stage: args }),
  committed: (...args) => post({ committed: args }),
  storeWaiting: (...args) => post({ storeWaiting: args }),
  parked: (...args) => post({ parked: args }),
}
const at = (level: 'info' | 'warn' | 'error') => (fields: object, message: string) =>
  post({ log: { level, fields: describeErrors(fields), message } })
const log: Log = { info: at('info'), warn: at('warn'), error: at('error') }
const running = await startEmbedded(data, meter, log)
// Not caught: the error ends the thread, and with it the process.
running.failed.catch((error) => {
  throw error
})
parentPort!.on('message', async () => {
  await running.close()
  parentPort!.close()
})
post({ ready: true })
