/** The worker of an embedded queue, as a thread of the API's process. */
import { getPriority, setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { makeLog } from '../src/run.ts'
import { startThread, type ThreadData } from '../src/start.ts'

const data = workerData as ThreadData
// Where there are too few cores for all, saves are accepted first: what is accepted can wait. On Linux this is the thread's own priority,
// and elsewhere it would be that of the whole process. Only ever downwards: upwards may be forbidden.
if (process.platform === 'linux') setPriority(Math.min(19, getPriority() + 10))
// What it counts is counted by the process: the metrics are there.
const meter: Meter = {
  ...noMeter,
  stage: (...args) => parentPort!.postMessage({ stage: args }),
  committed: (...args) => parentPort!.postMessage({ committed: args }),
}
const running = await startThread(data, meter, makeLog(data.config.production))
// Not to be caught: an error here ends the thread, and the process with it.
running.failed.catch((error) => {
  throw error
})
parentPort!.on('message', async () => {
  await running.close()
  parentPort!.close()
})
