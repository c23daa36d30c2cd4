/** A worker thread of the test's own that takes what there is over the port it was given, and then sits on it. */
import { parentPort, workerData } from 'node:worker_threads'
import { SqliteQueue } from '../../src/queue/sqlite.ts'

const queue = new SqliteQueue(workerData.port)
const entries = await queue.consumer('thread').receive({ rows: 10, bytes: 1_000_000 }, 10_000)
parentPort!.postMessage(entries.map(({ id }) => id))
