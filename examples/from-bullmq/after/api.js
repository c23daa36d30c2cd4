/** POST /contents {"content":"…"}: a save of Spillway, whose worker makes it a row. The answer is the one from before. */
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { json } from 'node:stream/consumers'

const spillway = process.env.SPILLWAY_URL ?? 'http://127.0.0.1:8080'

const server = createServer(async (request, response) => {
  const { id = randomUUID(), content } = await json(request)
  const saved = await fetch(`${spillway}/save`, { method: 'POST', body: JSON.stringify({ id, content }) })
  const answer = saved.ok ? { id } : await saved.json()
  response.writeHead(saved.status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
})
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () =>
  console.log(`http://127.0.0.1:${server.address().port}`),
)
