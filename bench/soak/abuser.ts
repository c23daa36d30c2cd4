/** A client that abuses the API: twice a second it does one of these, in turns. What it holds open, it lets go after a while. */
import { Raw } from '../../test/harness/raw.ts'
import { WsClient } from '../../test/harness/ws.ts'

const everyMs = 500
const heldMs = 30_000

type Abuse = (url: string) => Promise<unknown>

const chunked = 'Transfer-Encoding: chunked\r\n'
const post = (path: string, headers: string) =>
  `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n${headers}\r\n`
const whole = (path: string, body: string) => post(path, `Content-Length: ${Buffer.byteLength(body)}\r\n`) + body
const graphql = (query: string) => JSON.stringify({ query })

const hugeBody = whole('/graphql', graphql(`{ __typename } #${'x'.repeat(3_000_000)}`))
const smallPieces = post('/graphql', chunked) + '1\r\nA\r\n'.repeat(20_000)
const deepDocument = whole('/graphql', graphql(`{ ${'a { '.repeat(2_000)}b${' }'.repeat(2_000)} }`))
const manyAliases = whole(
  '/graphql',
  graphql(
    `{ ${Array.from({ length: 500 }, (_, i) => `a${i}: messages(first: 100) { edges { node { id } } }`).join(' ')} }`,
  ),
)
const follow = graphql('subscription { messageSaved { cursor message { id room author body createdAt savedAt } } }')
const slowReader = whole('/graphql', follow).replace('\r\n', '\r\nAccept: text/event-stream\r\n')

async function hold(url: string, data: string, reads: boolean): Promise<void> {
  const raw = await Raw.open(url)
  if (!reads) raw.socket.pause()
  setTimeout(() => raw.close(), heldMs).unref()
  await raw.send(data)
}

async function sendAndClose(url: string, data: string, afterMs = 2_000): Promise<void> {
  const raw = await Raw.open(url)
  setTimeout(() => raw.close(), afterMs).unref()
  await raw.send(data)
}

async function floodWebSocket(url: string): Promise<void> {
  const client = await WsClient.connect(url)
  setTimeout(() => client.close(), 2_000).unref()
  for (let i = 0; i < 2_000; i++) client.send({ type: 'ping' })
  for (let i = 0; i < 500; i++) client.subscribe(`${i}`, '{ __typename }')
}

export const abuses: Readonly<Record<string, Abuse>> = {
  'reads nothing of its subscription': (url) => hold(url, slowReader, false),
  'sends a body of 3 MB': (url) => sendAndClose(url, hugeBody),
  'sends half a request': (url) => hold(url, post('/graphql', 'Content-Length: 1000\r\n'), true),
  'sends a document of 2,000 levels': (url) => sendAndClose(url, deepDocument),
  'sends a document of 500 lists': (url) => sendAndClose(url, manyAliases),
  'floods a WebSocket with 2,500 messages': floodWebSocket,
  'sends a body in pieces of one byte': (url) => sendAndClose(url, smallPieces),
  'sends a request and closes before the answer': (url) =>
    sendAndClose(url, whole('/graphql', graphql('{ __typename }')), 0),
}

export class Abuser {
  readonly #timer: NodeJS.Timeout
  done = 0

  constructor(urls: readonly string[]) {
    const all = Object.values(abuses)
    this.#timer = setInterval(() => {
      const turn = this.done++
      const abuse = all[turn % all.length]!
      // It may be refused, or find nothing where a fault has hit.
      abuse(urls[Math.floor(turn / all.length) % urls.length]!).catch(() => {})
    }, everyMs)
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}
