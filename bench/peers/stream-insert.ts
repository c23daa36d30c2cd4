/**
 * What a good engineer writes in forty lines: XREADGROUP, one INSERT of all that came, XACK and XDEL, two batches at once. It keeps no
 * receipts, dead letters or events, and nothing takes over what a killed worker held.
 */
import { databasePool } from './mariadb.ts'
import { ready } from './peer.ts'
import { queueRedis } from './redis.ts'

const most = 1_000
const lanes = 2
const pool = databasePool(lanes)

type Entry = [id: string, fields: string[]]

async function lane(name: string): Promise<never> {
  const redis = queueRedis()
  for (;;) {
    const received = (await redis
      .xreadgroup('GROUP', 'workers', name, 'COUNT', most, 'BLOCK', 1_000, 'STREAMS', 'queue', '>')
      // The bench empties Redis before each round, and the group with it.
      .catch(() => redis.xgroup('CREATE', 'queue', 'workers', '0', 'MKSTREAM').catch(() => {}))) as
      | [string, Entry[]][]
      | null
    if (!Array.isArray(received)) continue
    const entries = received[0]![1]
    const savedAt = new Date()
    const rows = entries.map(([at, [, id, , content]]) => [id, content, new Date(Number(at.split('-')[0])), savedAt])
    // A worker that is started again may receive what it has inserted already.
    const sql = `INSERT IGNORE INTO Content (id, content, createdAt, savedAt) VALUES ${rows.map(() => '(?,?,?,?)').join()}`
    await pool.query(sql, rows.flat())
    const ids = entries.map(([id]) => id)
    await redis
      .multi()
      .xack('queue', 'workers', ...ids)
      .xdel('queue', ...ids)
      .exec()
  }
}

for (let i = 1; i <= lanes; i++) void lane(`lane-${i}`)
ready()
