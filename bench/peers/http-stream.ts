/** node:http, JSON.parse and XADD, those of one tick in one write, with no GraphQL, no checks and no duplicates found: the limit of accepting. */
import { randomUUID } from 'node:crypto'
import { serve } from './peer.ts'
import { queueRedis } from './redis.ts'

const redis = queueRedis({ enableAutoPipelining: true })

serve((request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', async () => {
    const body = JSON.parse(Buffer.concat(chunks).toString())
    const id = randomUUID()
    await redis.xadd('queue', '*', 'id', id, 'content', body.content ?? body.variables.content)
    const answer = JSON.stringify({ data: { save: { saveId: id, status: 'QUEUED' } } })
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(answer) })
    response.end(answer)
  })
})
