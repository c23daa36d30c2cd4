/** One subscriber, over Server-Sent Events or a WebSocket. It resolves when the server has begun to answer. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { WebSocket } from 'ws'

export interface Subscription {
  query: string
  variables?: Record<string, string>
}

export interface Connection {
  url: string
  protocol?: 'SSE' | 'WebSocket'
  /** To connect from. */
  localAddress?: string | undefined
}

export interface Subscriber {
  close(): void
}

export interface Listener {
  /** So many bytes of events arrived; heartbeats do not count. */
  received(bytes: number): void
  /** The server closed the connection. */
  dropped(): void
}

/** One subscriber that reads: `onEvents` gets whole events, as text. */
export async function subscribe(
  url: string,
  query: string,
  onEvents: (text: string, now: number) => void,
): Promise<Subscriber> {
  let rest = ''
  const socket = await openSse({ url }, { query })
  socket.on('data', (chunk: Buffer) => {
    const text = rest + chunk.toString('latin1')
    const end = text.lastIndexOf('\n\n')
    rest = text.slice(end + 2)
    if (end >= 0) onEvents(text.slice(0, end), performance.now())
  })
  return { close: () => socket.destroy() }
}

/** One subscriber of a crowd: it only counts. */
export function listen(connection: Connection, subscription: Subscription, listener: Listener): Promise<Subscriber> {
  return (connection.protocol === 'WebSocket' ? listenWebSocket : listenSse)(connection, subscription, listener)
}

async function listenSse(connection: Connection, subscription: Subscription, listener: Listener): Promise<Subscriber> {
  const socket = await openSse(connection, subscription)
  socket.on('data', (chunk: Buffer) => {
    if (!isHeartbeat(chunk)) listener.received(chunk.length)
  })
  socket.on('close', listener.dropped)
  return {
    close() {
      socket.off('close', listener.dropped)
      socket.destroy()
    },
  }
}

const longestHeartbeat = 128
const heartbeat = /^(?:[\da-f]+\r\n)?(?::|id:)(?![\s\S]*\ndata:)[\s\S]*\n\n(?:\r\n)?$/

/** A comment, or a cursor without an event; the peers send it in a chunk of HTTP. */
function isHeartbeat(chunk: Buffer): boolean {
  return chunk.length <= longestHeartbeat && heartbeat.test(chunk.toString('latin1'))
}

/** The events behind the head of the answer are left to the next listener. */
async function openSse({ url, localAddress }: Connection, subscription: Subscription): Promise<Socket> {
  const { hostname, port, host } = new URL(url)
  const body = JSON.stringify(subscription)
  const socket = connect({ host: hostname, port: Number(port), noDelay: true, ...(localAddress && { localAddress }) })
  socket.write(
    `POST /graphql HTTP/1.1\r\nhost: ${host}\r\naccept: text/event-stream\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
  const [head] = (await next(socket, 'data')) as [Buffer]
  socket.on('error', () => {})
  if (head.toString('latin1', 9, 12) === '200') return socket
  socket.destroy()
  throw new Error(`${url} answered a subscription with ${head.toString('latin1', 0, 300)}`)
}

/** Sends `ping` behind the subscription: its `pong` means that the server has read the subscription. */
async function listenWebSocket(
  { url, localAddress }: Connection,
  payload: Subscription,
  listener: Listener,
): Promise<Subscriber> {
  const options = { perMessageDeflate: false, ...(localAddress && { localAddress }) }
  const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/graphql`, 'graphql-transport-ws', options)
  const answer = async (expected: string) => {
    const [data] = await next(socket, 'message')
    const { type } = JSON.parse(String(data))
    if (type !== expected) throw new Error(`${url} answered a subscription with ${String(data).slice(0, 300)}`)
  }
  await next(socket, 'open')
  socket.send('{"type":"connection_init"}')
  await answer('connection_ack')
  socket.send(JSON.stringify({ type: 'subscribe', id: '1', payload }))
  socket.send('{"type":"ping"}')
  await answer('pong')
  socket.on('message', (data: Buffer) => listener.received(data.length))
  socket.on('error', () => {})
  socket.on('close', listener.dropped)
  return {
    close() {
      socket.off('close', listener.dropped)
      socket.terminate()
    },
  }
}

/** Rejects when the connection closes before. */
async function next(socket: Socket | WebSocket, event: string): Promise<unknown[]> {
  const closed = new AbortController()
  const abort = () => closed.abort()
  socket.once('close', abort)
  try {
    return await once(socket, event, { signal: closed.signal })
  } catch (error) {
    throw closed.signal.aborted ? new Error('the server closed the connection of a subscriber') : error
  } finally {
    socket.off('close', abort)
  }
}
