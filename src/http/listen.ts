/**
 * The HTTP server: it listens, passes requests to their routes, and closes in order. Invariant: every request gets one response, and no
 * connection is left after `close`.
 */
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Bytes } from '../app/bytes.ts'
import type { Log } from '../model/log.ts'
import type { Tracer } from '../model/tracer.ts'
import { discard, mayCost } from './body.ts'
import { ConnectionLimit, type OtherProcesses } from './connection-limit.ts'
import { Connections } from './connections.ts'
import { HttpError, publicError, truncate } from './errors.ts'
import { requestId, sendError, setRequestId, sharedBody } from './respond.ts'
import { allow, handleRequest, type RouterDeps } from './route.ts'
import { muteParser, requestCost } from './share.ts'
import { normalizeTarget, wantsWebSocket } from './target.ts'

export interface HttpServer {
  /** http://HOST:PORT, with the real port. */
  url: string
  /** Stops listening, lets requests in progress finish, and ends the streams. May be called twice. */
  close(): Promise<void>
}

export interface HttpOptions {
  host: string
  port: number
  /** The setting that `port` comes from, named in the error for a port that is in use. */
  portSetting?: 'PORT' | 'WORKER_PORT'
  maxBodyBytes: number
  /** Of this process, and of the others. */
  maxConnections: number
  /** Undefined: this is the only API process of the machine. */
  others?: OtherProcesses | undefined
  bytes: Bytes
  /** A connection without any traffic is closed after this time. It must be longer than any response takes. */
  idleTimeoutMs?: number
  /** undefined: nothing is traced. */
  tracer?: Tracer | undefined
  log: Log
}

/** Rejects if the server cannot listen on the address; the error says why and what to change. */
export async function listen(deps: RouterDeps, options: HttpOptions): Promise<HttpServer> {
  const { tracer, log } = options
  const connections = new Connections(new ConnectionLimit(options.maxConnections, options.others), options.bytes)
  const serve = (request: IncomingMessage, response: ServerResponse, id: string) => {
    const connection = connections.of(request.socket)
    if (!connection.share.use(requestCost)) {
      connection.share.stop()
      muteParser(request.socket)
    }
    connection.inProgress += 1
    handleRequest(deps, options, connection, request, response, id).then(
      () => {
        connection.inProgress -= 1
        if (!response.writableFinished) connection.finishing(response, sharedBody(response))
      },
      (error) => {
        connection.inProgress -= 1
        if (mayCost(request)) discard(request, connection.share)
        sendError(response, error, id, log)
      },
    )
  }
  const server = createServer(
    {
      headersTimeout: 5_000,
      requestTimeout: 20_000,
      connectionsCheckingInterval: 1_000,
      // Longer than proxies keep theirs (60 s is common): a proxy that reuses a connection which closes at that moment responds 502.
      keepAliveTimeout: 75_000,
      shouldUpgradeCallback: wantsWebSocket,
    },
    (request, response) => {
      normalizeTarget(request)
      const id = requestId(request)
      setRequestId(response, id)
      if (tracer === undefined) serve(request, response, id)
      else trace({ tracer, route: deps.route }, request, response, id, () => serve(request, response, id))
    },
  )
  server.setTimeout(options.idleTimeoutMs ?? 90_000)
  connections.watch(server)
  server.on('upgrade', (request, socket, head) => {
    // No other listener exists during the handshake.
    socket.on('error', () => socket.destroy())
    const connection = connections.of(request.socket)
    if (connection.surplus) {
      socket.end('HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
      return
    }
    try {
      normalizeTarget(request)
      deps.originCheck.check(request)
      deps.upgrade(request, socket, head, connection)
    } catch (error) {
      const status = publicError(error, log).status
      socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    }
  })
  // Without a listener, Node responds with a body of its own.
  server.on('checkExpectation', (request, response) => {
    response.shouldKeepAlive = false
    const got = JSON.stringify(truncate(request.headers.expect ?? '', 100))
    const error = new HttpError(417, `Expect: ${got} cannot be met; leave it out, or send 100-continue.`)
    sendError(response, error, requestId(request), log)
  })
  // This server is no proxy. Without a listener, Node closes the connection without a response.
  server.on('connect', (_request, socket: Duplex) => {
    socket.on('error', () => socket.destroy())
    socket.end(`HTTP/1.1 405 Method Not Allowed\r\nAllow: ${allow}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
  })
  await bind(server, options)
  const address = server.address() as AddressInfo
  const name = address.family === 'IPv6' ? `[${address.address}]` : address.address
  let closed: Promise<void> | undefined
  return {
    url: `http://${name}:${address.port}`,
    close: () => {
      closed ??= close(server, connections)
      return closed
    },
  }
}

function bind(server: Server, { host, port, portSetting = 'PORT' }: HttpOptions): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE'
          ? new Error(
              `Port ${port} on ${host} is in use: stop what listens there, or set ${portSetting} to another one.`,
            )
          : new Error(`Cannot listen on ${host}:${port}: ${error.message}. Check HOST and ${portSetting}.`),
      ),
    )
    server.listen(port, host, resolve)
  })
}

async function close(server: Server, connections: Connections): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  // Requests in progress may take three seconds more; GraphQL ends its streams itself.
  const timer = setTimeout(() => connections.destroyAll(), 3_000)
  await closed
  clearTimeout(timer)
}

/** Traces the requests that may save: each POST. Reads, probes and files of the console are no part of a save's path. */
function trace(
  { tracer, route: find }: { tracer: Tracer; route: RouterDeps['route'] },
  request: IncomingMessage,
  response: ServerResponse,
  id: string,
  serve: () => void,
): void {
  const { method = 'GET', url = '/' } = request
  const route = url.split('?', 1)[0]!
  if (method !== 'POST' || !find(route, request)?.POST) {
    serve()
    return
  }
  // Node joins two of these headers with a comma, which makes the value invalid.
  const traceparent = request.headers.traceparent as string | undefined
  tracer.request({ method, route, id, traceparent }, (done) => {
    // A response that was sent, or whose socket was taken over, has no socket any more.
    response.once('close', () => done(response.socket === null ? response.statusCode : undefined))
    serve()
  })
}

/** Files for the data, the connections to Redis and to the database, modules, and connections that are refused. */
const otherFiles = 600

/** Says what to do if the limit of open files is too low for so many connections; undefined if it suffices or is unknown. */
export function openFilesAdvice(
  maxConnections: number,
  processes: number,
  limits: string = ownLimits(),
): string | undefined {
  const limit = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1])
  const needed = Math.ceil(maxConnections / processes) + otherFiles
  if (Number.isNaN(limit) || limit >= needed) return undefined
  const fewer = limit > otherFiles ? `, or set MAX_CONNECTIONS to ${(limit - otherFiles) * processes}` : ''
  return `the limit of open files is ${limit}, and MAX_CONNECTIONS=${maxConnections} needs ${needed}: raise it (ulimit -n ${needed})${fewer}`
}

function ownLimits(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8')
  } catch {
    return ''
  }
}
