/** A TCP connection to an HTTP server, for what no HTTP client would send. */
import { connect, type Socket } from 'node:net'

export class Raw {
  readonly socket: Socket
  /** What came so far, a byte a character. */
  text = ''
  /** Resolves with what came when the connection is gone, however it went. */
  readonly closed: Promise<string>

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      this.text += chunk
    })
    this.closed = new Promise((resolve) => socket.on('close', () => resolve(this.text)))
  }

  /** Rejects where it is refused. */
  static open(url: string): Promise<Raw> {
    const { hostname, port } = new URL(url)
    return new Promise((resolve, reject) => {
      const socket = connect({ host: hostname, port: Number(port), noDelay: true }, () => resolve(new Raw(socket)))
      socket.once('error', reject)
    })
  }

  /** Sends, and waits until it is on its way; false where the other end is gone. */
  send(data: string | Buffer): Promise<boolean> {
    return new Promise((resolve) => {
      if (this.socket.destroyed) resolve(false)
      else this.socket.write(data, (error) => resolve(!error))
    })
  }

  /** Of the answers that came so far. */
  get statuses(): number[] {
    return [...this.text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))
  }

  close(): void {
    this.socket.destroy()
  }
}

/** Sends it on a connection of its own and returns all that comes back. What is sent should end the connection. */
export async function exchange(url: string, data: string | Buffer): Promise<string> {
  const raw = await Raw.open(url)
  await raw.send(data)
  const text = await raw.closed
  return text
}
