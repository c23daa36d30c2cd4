/** The same bytes to every open stream, as often as POST /write?times=&length= says, each socket at its own pace: the limit of fan-out. */
import type { ServerResponse } from 'node:http'
import { serve } from './peer.ts'

const streams = new Set<ServerResponse>()

async function write(stream: ServerResponse, bytes: Buffer, times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    if (!stream.write(bytes)) await new Promise((resolve) => stream.once('drain', resolve))
  }
}

serve((request, response) => {
  const url = new URL(request.url!, 'http://x')
  if (url.pathname === '/write') {
    const bytes = Buffer.alloc(Number(url.searchParams.get('length')), 'x')
    for (const stream of streams) void write(stream, bytes, Number(url.searchParams.get('times')))
    response.end('{}')
    return
  }
  request.resume()
  response.useChunkedEncodingByDefault = false
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.flushHeaders()
  streams.add(response)
  response.on('close', () => streams.delete(response))
})
