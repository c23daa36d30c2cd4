/**
 * Many subscribers in a process of their own, which a test can freeze or kill: `node crowd.ts URL SSE WEBSOCKETS`. Says "open" when all
 * are subscribed; on SIGUSR2 half of them end politely and half break off, and it says "gone".
 */
import { once } from 'node:events'
import { type Agent, get, type IncomingMessage } from 'node:http'
import { WebSocket } from 'ws'

const [url = '', sse, webSockets] = process.argv.slice(2)
const query = encodeURIComponent('subscription { saved { cursor content { id content } } }')
const leave: (() => Promise<unknown>)[] = []

async function overSse(polite: boolean): Promise<void> {
  const sent = get(`${url}/graphql?query=${query}`, {
    agent: false as unknown as Agent,
    headers: { accept: 'text/event-stream' },
  })
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  response.on('data', () => {})
  response.on('error', () => {})
  leave.push(async () => {
    const closed = once(response.socket, 'close')
    if (polite) response.socket.end()
    else response.socket.resetAndDestroy()
    await closed
  })
}

async function overWs(polite: boolean): Promise<void> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws')
  await once(socket, 'open')
  socket.send(JSON.stringify({ type: 'connection_init' }))
  await once(socket, 'message')
  socket.send(
    JSON.stringify({
      id: '1',
      type: 'subscribe',
      payload: { query: 'subscription { saved { cursor content { id } } }' },
    }),
  )
  // Answered behind the subscription: it is open by then.
  socket.send(JSON.stringify({ type: 'ping' }))
  await once(socket, 'message')
  leave.push(async () => {
    const closed = once(socket, 'close')
    if (polite) socket.close()
    else socket.terminate()
    await closed
  })
}

const all = [
  ...Array.from({ length: Number(sse) }, (_, i) => () => overSse(i % 2 === 0)),
  ...Array.from({ length: Number(webSockets) }, (_, i) => () => overWs(i % 2 === 0)),
]
// A few at a time: it is not the accept queue that is tested.
for (let i = 0; i < all.length; i += 50) await Promise.all(all.slice(i, i + 50).map((open) => open()))
console.log('open')
await once(process, 'SIGUSR2')
await Promise.all(leave.map((go) => go()))
console.log('gone')
