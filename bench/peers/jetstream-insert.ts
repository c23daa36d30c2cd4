/**
 * What stream-insert.ts does, of NATS JetStream: one INSERT of all that came, then the acknowledgements, two batches at once. It keeps no
 * receipts, dead letters or events; what a killed worker held is delivered again.
 */
import { type JsMsg, jetstream } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { databasePool } from './mariadb.ts'
import { need, ready } from './peer.ts'

interface Save {
  id: string
  content: string
  at: number
}

const most = 1_000
const lanes = 2
const pool = databasePool(lanes)
const consumer = await jetstream(await connect({ port: Number(need('NATS_PORT')) })).consumers.get('saves', 'workers')
const arrived: JsMsg[] = []
let busy = 0

function insertArrived(): void {
  while (busy < lanes && arrived.length > 0) {
    busy += 1
    void insert(arrived.splice(0, most)).then(() => {
      busy -= 1
      insertArrived()
    })
  }
}

async function insert(messages: JsMsg[]): Promise<void> {
  const savedAt = new Date()
  const rows = messages.map((message) => {
    const { id, content, at } = message.json<Save>()
    return [id, content, new Date(at), savedAt]
  })
  // What was not acknowledged in time is delivered again.
  const sql = `INSERT IGNORE INTO Content (id, content, createdAt, savedAt) VALUES ${rows.map(() => '(?,?,?,?)').join()}`
  await pool.query(sql, rows.flat())
  for (const message of messages) message.ack()
}

await consumer.consume({
  max_messages: most * lanes,
  callback(message) {
    arrived.push(message)
    // When all that the socket had is here.
    if (arrived.length === 1) setImmediate(insertArrived)
  },
})
ready()
