/**
 * Subscribers over Server-Sent Events. Many of them share the cores with the server they listen to, so a crowd does not read what it is
 * sent: every event of one kind has the same length, and a subscriber is a number of bytes that arrived.
 */
import { connect, type Socket } from 'node:net'

/** One subscriber that reads: told of whole events, as text. */
export async function subscribe(
  url: string,
  query: string,
  onEvents: (text: string, now: number) => void,
): Promise<{ close(): void }> {
  let rest = ''
  const socket = await openStream(url, query)
  socket.on('data', (chunk: Buffer) => {
    const text = rest + chunk.toString('latin1')
    const end = text.lastIndexOf('\n\n')
    rest = text.slice(end + 2)
    if (end >= 0) onEvents(text.slice(0, end), performance.now())
  })
  return { close: () => socket.destroy() }
}

export class Crowd {
  readonly #sockets: Socket[] = []
  readonly #received: Float64Array
  #total = 0
  /** Told which subscriber has received how many bytes so far. */
  onBytes: (bytes: number) => void = () => {}
  #waiting: { bytes: number; resolve(): void } | undefined

  private constructor(size: number) {
    this.#received = new Float64Array(size)
  }

  static async open(url: string, query: string, size: number): Promise<Crowd> {
    const crowd = new Crowd(size)
    // A server's backlog of connections is bounded.
    for (let i = 0; i < size; i += 100) {
      await Promise.all(
        Array.from({ length: Math.min(100, size - i) }, async (_, n) => {
          const socket = await openStream(url, query)
          socket.on('data', (chunk: Buffer) => crowd.#count(i + n, chunk.length))
          crowd.#sockets.push(socket)
        }),
      )
    }
    return crowd
  }

  #count(subscriber: number, bytes: number): void {
    const received = this.#received[subscriber]! + bytes
    this.#received[subscriber] = received
    this.#total += bytes
    this.onBytes(received)
    if (this.#waiting && this.#total >= this.#waiting.bytes) this.#waiting.resolve()
  }

  get size(): number {
    return this.#sockets.length
  }

  get total(): number {
    return this.#total
  }

  /** Counts from zero again. Nothing may be under way. */
  restart(): void {
    this.#received.fill(0)
    this.#total = 0
  }

  /** Resolves when all together have received so many bytes; rejects after `timeoutMs`. */
  async hasReceived(bytes: number, timeoutMs: number): Promise<void> {
    if (this.#total >= bytes) return
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve, reject) => {
      this.#waiting = { bytes, resolve }
      timer = setTimeout(
        () => reject(new Error(`${this.#total} of ${bytes} bytes had arrived after ${timeoutMs} ms`)),
        timeoutMs,
      )
    }).finally(() => clearTimeout(timer))
    this.#waiting = undefined
  }

  /** Resolves when nothing has arrived for a while. */
  async quiet(): Promise<void> {
    for (let before = -1; before !== this.#total; ) {
      before = this.#total
      await new Promise((resolve) => setTimeout(resolve, 300))
    }
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
  }
}

/** Resolves when the server has begun to answer; what comes behind the head of that answer is left to whoever listens next. */
function openStream(url: string, query: string): Promise<Socket> {
  const { hostname, port, host } = new URL(url)
  const body = JSON.stringify({ query })
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true }, () => {
      socket.write(
        `POST /graphql HTTP/1.1\r\nhost: ${host}\r\naccept: text/event-stream\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      )
    })
    socket.once('error', reject)
    socket.once('data', (chunk: Buffer) => {
      const status = chunk.toString('latin1', 9, 12)
      socket.removeAllListeners('error')
      socket.on('error', () => {})
      if (status === '200') resolve(socket)
      else reject(new Error(`${url} answered a subscription with ${chunk.toString('latin1', 0, 300)}`))
    })
  })
}
