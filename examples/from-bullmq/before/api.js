/** POST /contents {"content":"…"}: a job of BullMQ, which the worker makes a row. */
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { json } from 'node:stream/consumers'
import { openQueue } from '../queue.js'

const queue = openQueue()

const server = createServer(async (request, response) => {
  const { id = randomUUID(), content } = await json(request)
  await queue.add('save', { id, content }, { jobId: id })
  response.writeHead(202, { 'content-type': 'application/json' }).end(JSON.stringify({ id }))
})
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () =>
  console.log(`http://127.0.0.1:${server.address().port}`),
)
