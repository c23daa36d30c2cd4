/** A client that speaks graphql-transport-ws word by word, so that a test can also say what no proper client would. */
import { once } from 'node:events'
import { WebSocket } from 'ws'

export interface WsMessage {
  id?: string
  type: string
  // biome-ignore lint/suspicious/noExplicitAny: as Json in client.ts.
  payload?: any
}

export class WsClient {
  readonly socket: WebSocket
  readonly messages: WsMessage[] = []
  /** Called with each message besides, as it comes. */
  onMessage: (message: WsMessage) => void = () => {}
  /** The code it was closed with; 1006: without a word. */
  readonly closed: Promise<number>

  private constructor(socket: WebSocket) {
    this.socket = socket
    socket.on('message', (data) => {
      const message = JSON.parse(String(data)) as WsMessage
      this.messages.push(message)
      this.onMessage(message)
    })
    socket.on('error', () => {})
    this.closed = new Promise((resolve) => socket.on('close', (code) => resolve(code)))
  }

  /** Opens the socket and says nothing. Rejects with the status where the server refuses. */
  static async open(url: string, headers: Record<string, string> = {}, protocol = 'graphql-transport-ws') {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/graphql`, protocol, { headers })
    const client = new WsClient(socket)
    const refused = new Promise<never>((_, reject) =>
      socket.on('unexpected-response', (_request, response) => {
        socket.terminate()
        reject(new Error(`refused with ${response.statusCode}`))
      }),
    )
    await Promise.race([once(socket, 'open'), refused])
    return client
  }

  /** Opens it and waits for connection_ack. */
  static async connect(url: string, payload?: Record<string, unknown>): Promise<WsClient> {
    const client = await WsClient.open(url)
    client.send({ type: 'connection_init', ...(payload ? { payload } : {}) })
    await new Promise<void>((resolve, reject) => {
      client.onMessage = () => resolve()
      // A server that is killed in between acknowledges nothing.
      void client.closed.then((code) => reject(new Error(`closed with ${code} before it was acknowledged`)))
    })
    client.onMessage = () => {}
    return client
  }

  send(message: object | string): void {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message))
  }

  subscribe(id: string, query: string, variables: Record<string, unknown> = {}): void {
    this.send({ id, type: 'subscribe', payload: { query, variables } })
  }

  of(id: string): WsMessage[] {
    return this.messages.filter((message) => message.id === id)
  }

  close(): void {
    this.socket.terminate()
  }
}
