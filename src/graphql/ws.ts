/**
 * GraphQL over WebSocket (`graphql-transport-ws`, by graphql-ws). Subscriptions are SSE's; everything else runs through Yoga's pipeline. Invariant: a socket is written to only when it has taken what came before, so that a slow one holds one
 * message and its place in the log; it is read from only while what it sent is being answered; and what it sent counts, from its first
 * byte until it is answered, so that one that never reads, or never ends a message, holds little.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { ExecutionArgs, ExecutionResult, FormattedExecutionResult, GraphQLError } from 'graphql'
import { CloseCode, handleProtocols, makeServer } from 'graphql-ws'
import { type WebSocket, WebSocketServer } from 'ws'
import { type Bytes, type Hold, largeBytes } from '../app/bytes.ts'
import type { Client } from '../app/save.ts'
import type { Auth, Grant } from '../http/auth.ts'
import type { Connection } from '../http/connections.ts'
import { cut } from '../http/cut.ts'
import { type MaskError, notPersisted, shownErrors, shownResult, thrownErrors } from '../http/errors.ts'
import { Incoming } from '../http/incoming.ts'
import { checkValues } from '../http/json-values.ts'
import type { RateLimit } from '../http/rate-limit.ts'
import { frameCost } from '../http/share.ts'
import { sliceReads } from '../http/slices.ts'
import { checkSubscription, clientOf, type StreamLimit } from '../http/stream-limit.ts'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import type { Meter } from '../model/meter.ts'
import { asyncIterator } from './async-iterator.ts'
import type { Context } from './builder.ts'
import type { Documents, Yoga } from './documents.ts'
import { Leaving } from './leaving.ts'
import type { Stream } from './stream.ts'
import type { Subscriptions } from './subscriptions.ts'
import { completedId, isServers, subscribeId, withQuery } from './ws-messages.ts'

const heartbeatMs = 12_000
/** Pings without an answer, after which nobody is at the other end. Fewer would part with clients that are only slow to read. */
const mostUnanswered = 3
const initWaitMs = 3_000
/** Service restart (RFC 6455's registry): clients of graphql-ws come back by themselves. */
const serviceRestart = 1012
/** Try again later: clients of graphql-ws do. */
const tryAgainLater = 1013
/** RFC 6455: a message that is too big. */
const tooBig = 1009
/** Of all that comes before a connection_init was accepted: a token, and little more. */
const initBytes = 16 * 1024
/** Of a ping up to which its payload is sent back; a pong needs none. */
const pingBytes = 1_024
/** At once, subscriptions among them, on one socket. */
const mostOperations = 100
/** Messages whose answers wait for the peer to take them, from which on no more are read. */
const mostMessages = 200
/** A close frame takes 123 bytes of reason, three of them for a mark that it was cut. */
const reasonBytes = 120
/** Of one message. */
const mostFragments = 1_024
/** What is read at once uses up a turn: it may hold ten thousand frames, of which ws says nothing. */
const bytesForCost = 64
/** The same while it closes, when frames are not counted. */
const bytesForCostClosing = 8
/** Of what waits to be sent, in bytes, up to which a ping is answered: they are answered by the socket, and not by us. */
const pongsUpTo = 64 * 1024

export interface WsDeps {
  yoga: Yoga
  documents: Documents
  subscriptions: Subscriptions
  auth: Auth
  contextOf: (grant: Grant, client?: Client) => Context
  bytes: Bytes
  maskError: MaskError
  maxMessageBytes: number
  rateLimit: RateLimit
  limit: StreamLimit
  meter: Meter
  log: Log
}

interface Extra {
  /** Of the request that opened the socket; connection_init may bring one, too. */
  authorization: string | undefined
  grant: Grant | undefined
  /** Whom limits are counted by. */
  client: string
  /** Called when the grant is known. Throws RATE_LIMITED. */
  granted(grant: Grant): void
  /** Whether an operation of this id is under way. */
  inUse(id: string): boolean
  /** Called when it has a subscription. */
  streams(): void
  close(code: number, reason: string): void
  /** Being answered. */
  messages: number
  /** The message that is being handled: what it takes, and how long it is. */
  message: { held: Hold; length: number } | undefined
  /** Payloads that are not sent back. */
  readonly largePings: WeakSet<object>
  readonly leaving: Leaving
}

/** A subscription has a stream, and everything else is executed. */
type Args = ExecutionArgs & {
  stream?: Stream
  opened?: () => void
  execute?: ReturnType<Yoga['getEnveloped']>['execute']
}

export class WsServer {
  readonly #deps: WsDeps
  readonly #sockets: WebSocketServer
  readonly #protocol: ReturnType<typeof makeServer<Record<string, unknown>, Extra>>

  constructor(deps: WsDeps) {
    this.#deps = deps
    this.#sockets = new WebSocketServer({
      noServer: true,
      maxPayload: deps.maxMessageBytes,
      handleProtocols,
      autoPong: false,
      maxFragments: mostFragments,
    })
    this.#protocol = makeServer<Record<string, unknown>, Extra>({
      connectionInitWaitTimeout: initWaitMs,
      onConnect: async (context) => {
        const { connectionParams, extra } = context
        extra.inUse = (id) => id in context.subscriptions
        try {
          const given = connectionParams?.authorization ?? connectionParams?.Authorization
          extra.grant = await deps.auth.grant(typeof given === 'string' ? given : extra.authorization)
          extra.granted(extra.grant)
          return true
        } catch (error) {
          if (error instanceof SpillwayError && error.code === 'RATE_LIMITED') {
            extra.close(tryAgainLater, error.message)
          }
          // 4403, as the protocol has it.
          return false
        }
      },
      // Called at once, while `message` is the ping's; the pong comes later.
      onPing: ({ extra }, payload) => {
        if (payload && extra.message!.length > pingBytes) extra.largePings.add(payload)
      },
      onSubscribe: async ({ extra }, id, { query, variables, operationName: name, extensions }) => {
        const operationName = name || undefined
        const params = { query, variables: variables ?? {}, operationName }
        // There is no subscribe before a connection_init that was accepted.
        const grant = extra.grant!
        const { held, length } = extra.message!
        const opened = extra.leaving.opening(id)
        try {
          if (extra.messages > mostOperations) throw tooManyOperations()
          if (deps.rateLimit.on) await deps.rateLimit.count(extra.client)
          if (query === '' && extensions?.persistedQuery) throw notPersisted()
          const contextValue = deps.contextOf(grant, extra.leaving.client(id))
          const subscription = deps.subscriptions.find(params)
          if (subscription) {
            checkSubscription(length)
            held.subscribe()
            extra.streams()
            const stream = await deps.subscriptions.open(subscription, params, contextValue)
            const { schema, node: document } = subscription
            return { schema, document, operationName, stream, opened } as Args
          }
          opened()
          const { schema, node: document } = deps.documents.parse(params)
          const { execute } = deps.yoga.getEnveloped({ params })
          return { schema, document, variableValues: params.variables, operationName, contextValue, execute } as Args
        } catch (error) {
          opened()
          return thrownErrors(error).map((thrown) => deps.maskError(thrown) as GraphQLError)
        }
      },
      execute: (args) => (args as Args).execute!(args),
      subscribe: (args) => {
        const { stream, opened } = args as Args
        opened!()
        return results(stream!, deps.meter)
      },
      // What a stream gives is in its last form.
      onNext: (_ctx, _id, _payload, args, result) =>
        (args as Args).stream
          ? (result as FormattedExecutionResult)
          : shownResult(result as ExecutionResult, deps.maskError),
      // Those of a stream that broke, too, which come as they were thrown.
      onError: (_ctx, _id, _payload, errors) => shownErrors(errors, deps.maskError).errors,
    })
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, connection: Connection): void {
    this.#sockets.handleUpgrade(request, socket, head, (client) => this.#serve(client, request, socket, connection))
  }

  #serve(socket: WebSocket, request: IncomingMessage, raw: Duplex, connection: Connection): void {
    const { log, limit, bytes, auth, rateLimit, maskError } = this.#deps
    let leaveLimit = () => {}
    let forget = () => {}
    // The protocol names ids in it, which are as long as a client likes; ws throws, and the socket stays half closed.
    const close = (code: number, reason: string) => socket.close(code, cut(reason, reasonBytes))
    const extra: Extra = {
      authorization: request.headers.authorization,
      grant: undefined,
      client: '',
      granted: (grant) => {
        // It left while its token was checked.
        if (socket.readyState !== socket.OPEN) return
        extra.client = clientOf(grant, request)
        leaveLimit = limit.enter(extra.client)
        forget = auth.watch(grant, () => socket.close(CloseCode.Unauthorized, 'The token is not valid any more.'))
      },
      inUse: () => false,
      streams: () => {
        connection.stream = true
      },
      close,
      messages: 0,
      message: undefined,
      largePings: new WeakSet(),
      leaving: new Leaving(),
    }
    /** Closes it, and lets in no more: whoever is refused may still be sending. */
    const refuse = (code: number, reason: string) => {
      discard()
      socket.close(code, reason)
      setTimeout(() => socket.terminate(), 1_000).unref()
    }
    const send = (data: string) =>
      new Promise<void>((resolve) => {
        // Resolves when the kernel has it: that is the back-pressure. A broken socket is about to close, and ends everything.
        if (socket.readyState !== socket.OPEN) return resolve()
        let sent = () => {}
        socket.send(data, () => {
          sent()
          resolve()
        })
        if (socket.bufferedAmount > 0) sent = connection.sending(data.length)
      })
    /** Of a message that is not parsed: it fails as its operation does, so that the others on the socket go on. */
    const refuseOperation = (id: string | undefined, error: Error) => {
      if (id === undefined) return close(CloseCode.BadRequest, error.message)
      void count()
      if (extra.inUse(id)) return close(CloseCode.SubscriberAlreadyExists, `Subscriber for ${id} already exists`)
      return send(JSON.stringify({ id, type: 'error', payload: shownErrors([error], maskError).errors }))
    }
    const came = new Incoming(connection.receive())
    connection.share.paused = () => socket.isPaused
    const discard = sliceReads(raw, connection.share, (length) => {
      const isOpen = socket.readyState === socket.OPEN
      connection.share.use(length / (isOpen ? bytesForCost : bytesForCostClosing))
      if (!isOpen) return
      if (!came.chunk(length)) return refuse(tryAgainLater, overloadedReason)
      if (!extra.grant && came.bytes > initBytes) refuse(tooBig, initReason)
    })
    /** Counts a frame; false where none is handled any more. */
    const heard = () => {
      if (socket.readyState !== socket.OPEN) return false
      connection.share.use(frameCost)
      return true
    }
    const count = async () => {
      if (!rateLimit.on || !extra.grant) return
      try {
        await rateLimit.count(extra.client)
      } catch (error) {
        close(tryAgainLater, (error as Error).message)
      }
    }
    let unanswered = 0
    const heartbeat = setInterval(() => {
      if (unanswered >= mostUnanswered) return socket.terminate()
      unanswered += 1
      socket.ping()
    }, heartbeatMs)
    socket.on('pong', (data) => {
      if (!heard()) return
      if (unanswered === 0) void count()
      unanswered = 0
      came.frame(data.length)
    })
    socket.on('ping', (data) => {
      if (!heard()) return
      void count()
      came.frame(data.length)
      if (socket.bufferedAmount < pongsUpTo) socket.pong(data)
    })
    // What the peer sent is no WebSocket; ws closes the connection itself.
    socket.on('error', discard)
    const closed = this.#protocol.opened(
      {
        protocol: socket.protocol,
        send,
        onPong: () => void count(),
        onPing: (payload) => {
          void count()
          const echo = payload && !extra.largePings.has(payload)
          return send(JSON.stringify(echo ? { type: 'pong', payload } : { type: 'pong' }))
        },
        close,
        onMessage: (handle) => {
          let line: Promise<void> | undefined
          const handleInTurn = async (data: Buffer, held: Hold) => {
            const text = String(data)
            const completed = completedId(text)
            const opened = () => (completed === undefined ? undefined : extra.leaving.opened(completed))
            if (line || text.length > largeBytes || opened()) {
              // Later messages wait behind a large message, and behind the end of an operation that is being set up.
              const mine: Promise<void> = (line ?? Promise.resolve()).then(() =>
                text.length > largeBytes ? bytes.turn() : opened(),
              )
              line = mine
              await mine
              if (line === mine) line = undefined
            }
            if (completed !== undefined) extra.leaving.leave(completed)
            try {
              checkValues(text)
            } catch (error) {
              return refuseOperation(subscribeId(text), error as Error)
            }
            extra.message = { held, length: text.length }
            await handle(text.includes('"persistedQuery"') ? withQuery(text) : text)
          }
          socket.on('message', async (data: Buffer) => {
            if (!heard()) return
            came.message(data.length)
            if (!extra.grant && data.length > initBytes) return refuse(tooBig, initReason)
            const held = connection.receive()
            try {
              held.add(data.length)
            } catch {
              return refuse(tryAgainLater, overloadedReason)
            }
            extra.messages += 1
            // Whoever takes no answers is not heard any further, not even its pongs: the heartbeat parts with it.
            if (extra.messages === mostMessages) socket.pause()
            try {
              await handleInTurn(data, held)
            } catch (error) {
              if (isServers(data)) return close(CloseCode.BadRequest, 'Invalid message received')
              log.error({ err: error }, 'a WebSocket message could not be handled')
              socket.close(CloseCode.InternalServerError, 'Unexpected error.')
            } finally {
              held.release()
              extra.messages -= 1
              if (extra.messages === mostMessages - 1) socket.resume()
            }
          })
        },
      },
      extra,
    )
    socket.on('close', (code, reason) => {
      clearInterval(heartbeat)
      forget()
      leaveLimit()
      came.end()
      extra.leaving.leaveAll()
      void closed(code, String(reason))
    })
  }

  get open(): number {
    return this.#sockets.clients.size
  }

  /** Sends every client away, to come back elsewhere with its cursor. */
  close(): void {
    for (const socket of this.#sockets.clients) {
      socket.close(serviceRestart, 'The server stops; connect again.')
      // Whoever does not answer the goodbye is not waited for.
      setTimeout(() => socket.terminate(), 1_000).unref()
    }
    this.#sockets.close()
  }
}

const overloadedReason = 'This process holds as many bytes as it may; try again shortly.'
const initReason = `At most ${initBytes} bytes may be sent before connection_init is accepted.`

function tooManyOperations(): SpillwayError {
  const message = `At most ${mostOperations} operations at once are allowed on one socket; complete some first.`
  return new SpillwayError('RATE_LIMITED', message, { retryAfterMs: 1_000 })
}

function results(stream: Stream, meter: Meter): AsyncIterableIterator<ExecutionResult> {
  let ready: ExecutionResult[] = []
  return asyncIterator<ExecutionResult>(async () => {
    while (ready.length === 0) {
      const batch = await stream.next()
      if (!batch) return undefined
      ready = [...(batch.results as readonly ExecutionResult[])]
      meter.delivered(ready.length)
    }
    return ready.shift()
  }, stream.close)
}
