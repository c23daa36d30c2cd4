/** A proxy that breaks one promise of the server behind it. Invariant: what it is not told to change it passes on as it is. */
import { createServer, type IncomingHttpHeaders, request } from 'node:http'
import { type AddressInfo, connect } from 'node:net'

export interface Breakage {
  /** Of the body of a request. */
  request?(body: string): string
  headers?(headers: IncomingHttpHeaders): void
  /** Of a body of JSON. */
  body?(text: string): string
  status?(status: number): number
  /** Frames of a stream that came together, without their empty lines; `count` is how many events the stream has had before them. */
  frames?(frames: string[], count: number): string[]
}

export interface BrokenServer {
  url: string
  close(): Promise<void>
}

export async function breakServer(upstream: string, breakage: Breakage): Promise<BrokenServer> {
  const server = createServer(async (incoming, response) => {
    let body = ''
    try {
      for await (const chunk of incoming.setEncoding('utf8')) body += chunk
    } catch {
      return
    }
    const { host: _, 'content-length': _length, ...headers } = incoming.headers
    breakage.headers?.(headers)
    const outgoing = request(upstream + incoming.url, {
      method: incoming.method!,
      headers: { ...headers, connection: 'close' },
    })
    response.on('close', () => outgoing.destroy())
    outgoing.on('error', () => response.destroy())
    outgoing.on('response', async (answer) => {
      const { 'content-length': _, ...headers } = answer.headers
      const status = answer.statusCode!
      response.writeHead(breakage.status?.(status) ?? status, headers)
      try {
        let text = ''
        let count = 0
        const type = headers['content-type'] ?? ''
        const isStream = type.startsWith('text/event-stream')
        for await (const chunk of answer.setEncoding('utf8')) {
          if (type.startsWith('multipart/')) {
            response.write(chunk)
            continue
          }
          text += chunk
          if (!isStream) continue
          const frames = text.split('\n\n')
          text = frames.pop()!
          for (const frame of breakage.frames?.(frames, count) ?? frames) response.write(`${frame}\n\n`)
          count += frames.filter(isEvent).length
        }
        response.end(isStream || status === 304 ? text : (breakage.body?.(text) ?? text))
      } catch {
        response.destroy()
      }
    })
    outgoing.end(breakage.request?.(body) ?? body)
  })
  server.on('upgrade', ({ url, rawHeaders }, socket) => {
    const { hostname, port, host } = new URL(upstream)
    const lines = Array.from({ length: rawHeaders.length / 2 }, (_, i) => {
      const [name, value] = rawHeaders.slice(2 * i)
      return `${name}: ${/^host$/i.test(name!) ? host : value}\r\n`
    })
    const behind = connect(Number(port), hostname)
    behind.write(`GET ${url} HTTP/1.1\r\n${lines.join('')}\r\n`)
    behind.pipe(socket).pipe(behind)
    for (const one of [behind, socket])
      one.on('error', () => {}).on('close', () => behind.destroy() && socket.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

export const isEvent = (frame: string) => frame.includes('event: next')
