/**
 * Many subscribers in a process of their own, which a test can freeze or kill: `node crowd.ts URL SSE WEBSOCKETS [DOCUMENT]`. Each has a
 * room of its own as the variable `room`, if the document has one. Says "open" when all are subscribed; on SIGUSR2 half of them end politely and half break off, and it says "gone".
 */
import { type EventEmitter, once } from 'node:events'
import { type Agent, get, type IncomingMessage } from 'node:http'
import { WebSocket } from 'ws'

const [url = '', sse, webSockets, query = 'subscription { saved { cursor content { id content } } }'] =
  process.argv.slice(2)
const leave: (() => Promise<unknown>)[] = []
const variablesOf = (n: number) => (query.includes('$room') ? { room: `room ${n}` } : {})

/** However it comes to it: a server that is left in the middle of a frame may answer with a reset. */
function closing(connection: EventEmitter): Promise<void> {
  connection.on('error', () => {})
  return new Promise((resolve) => connection.once('close', resolve))
}

async function overSse(n: number, polite: boolean): Promise<void> {
  const search = new URLSearchParams({ query, variables: JSON.stringify(variablesOf(n)) })
  const sent = get(`${url}/graphql?${search}`, {
    agent: false as unknown as Agent,
    headers: { accept: 'text/event-stream' },
  })
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  response.on('data', () => {})
  response.on('error', () => {})
  const closed = closing(response.socket)
  leave.push(async () => {
    if (polite) response.socket.end()
    else response.socket.resetAndDestroy()
    await closed
  })
}

async function overWs(n: number, polite: boolean): Promise<void> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws')
  await once(socket, 'open')
  socket.send(JSON.stringify({ type: 'connection_init' }))
  await once(socket, 'message')
  socket.send(
    JSON.stringify({
      id: '1',
      type: 'subscribe',
      payload: { query, variables: variablesOf(n) },
    }),
  )
  // Answered behind the subscription: it is open by then.
  socket.send(JSON.stringify({ type: 'ping' }))
  await once(socket, 'message')
  const closed = closing(socket)
  leave.push(async () => {
    if (polite) socket.close()
    else socket.terminate()
    await closed
  })
}

const all = [
  ...Array.from({ length: Number(sse) }, (_, i) => () => overSse(i, i % 2 === 0)),
  ...Array.from({ length: Number(webSockets) }, (_, i) => () => overWs(i, i % 2 === 0)),
]
// A few at a time: it is not the accept queue that is tested.
for (let i = 0; i < all.length; i += 50) await Promise.all(all.slice(i, i + 50).map((open) => open()))
// Before anybody can know that it is time for it: unheard, this signal ends a process.
const leaving = once(process, 'SIGUSR2')
console.log('open')
await leaving
await Promise.all(leave.map((go) => go()))
console.log('gone')
