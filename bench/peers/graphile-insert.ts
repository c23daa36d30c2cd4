/**
 * graphile-worker with the batching that its documentation recommends (a local queue, jobs completed together). The saves of several jobs
 * gather into one INSERT.
 */
import { Logger, run } from 'graphile-worker'
import { Pool } from 'pg'
import { gather } from './gather.ts'
import { need, ready } from './peer.ts'

interface Save {
  id: string
  content: string
  at: number
}

declare global {
  namespace GraphileWorker {
    interface Tasks {
      save: Save[]
    }
  }
}

const concurrentJobs = 24
const pool = new Pool({ connectionString: need('POSTGRES_URL'), max: 2 })
// A job that is executed again may find its rows.
const sql = `
  INSERT INTO content (id, content, created_at, saved_at)
  SELECT id, content, to_timestamp(at / 1000.0), now()
  FROM json_to_recordset($1) AS saves (id uuid, content text, at float8)
  ON CONFLICT (id) DO NOTHING`
const insert = gather<Save>((saves) => pool.query({ name: 'insert', text: sql, values: [JSON.stringify(saves)] }))

await run({
  noHandleSignals: true,
  // A line for each job would cost as much as the job.
  logger: new Logger(() => () => {}),
  taskList: { save: (saves) => insert(...saves) },
  preset: {
    worker: {
      connectionString: need('POSTGRES_URL'),
      concurrentJobs,
      maxPoolSize: concurrentJobs + 1,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    },
  },
})
ready()
