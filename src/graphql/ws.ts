/**
 * GraphQL over WebSocket: the protocol `graphql-transport-ws`, by the library graphql-ws. Subscriptions are the same streams as over SSE; every
 * other operation runs in Yoga's pipeline. For what one socket may send and hold, see ws-socket.ts.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import {
  type ExecutionArgs,
  type ExecutionResult,
  type FormattedExecutionResult,
  GraphQLError,
  getOperationAST,
} from 'graphql'
import { handleProtocols, makeServer, type SubscribePayload, type Context as WsContext } from 'graphql-ws'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Client } from '../app/save.ts'
import { checkSubscription } from '../http/client-limits.ts'
import type { Connection } from '../http/connections.ts'
import { notPersisted, shownErrors, shownResult, thrownErrors } from '../http/errors.ts'
import { SpillwayError } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'
import type { Meter } from '../model/meter.ts'
import { asyncIterator } from './async-iterator.ts'
import type { Context } from './builder.ts'
import type { Documents } from './documents.ts'
import type { SocketCursors } from './heartbeat.ts'
import type { Stream } from './streams.ts'
import type { Subscriptions } from './subscriptions.ts'
import { type Protocol, WsSocket, type WsSocketDeps } from './ws-socket.ts'
import type { Yoga } from './yoga.ts'

const initTimeoutMs = 3_000
/** Service restart (RFC 6455's registry): clients of graphql-ws reconnect. */
const serviceRestart = 1012
/** Operations at once on one socket, subscriptions included. */
const maxOperations = 100
/** Fragments of one message. */
const maxFragments = 1_024

export interface WsDeps extends WsSocketDeps {
  yoga: Yoga
  documents: Documents
  subscriptions: Subscriptions
  contextOf: (grant: Grant, client?: Client) => Context
  meter: Meter
}

interface Subscribed {
  stream: Stream
  id: string
  socket: WsSocket
  opened: () => void
}

/** A subscription has a stream; every other operation is executed. */
type Args = ExecutionArgs & Partial<Subscribed> & { execute?: ReturnType<Yoga['getEnveloped']>['execute'] }
type SubscriptionArgs = ExecutionArgs & Subscribed

export class WsServer {
  readonly #deps: WsDeps
  readonly #server: WebSocketServer
  readonly #open = new Set<WsSocket>()
  readonly #protocol: Protocol

  constructor(deps: WsDeps, { maxMessageBytes }: { maxMessageBytes: number }) {
    this.#deps = deps
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      maxPayload: maxMessageBytes,
      handleProtocols,
      autoPong: false,
      maxFragments,
    })
    this.#protocol = makeServer<Record<string, unknown>, WsSocket>({
      connectionInitWaitTimeout: initTimeoutMs,
      onConnect: (context) => this.#authenticate(context),
      // Called while `message` of the socket is the ping; the pong comes later.
      onPing: ({ extra }, payload) => extra.pinged(payload),
      onSubscribe: ({ extra }, id, payload) => this.#prepare(extra, id, payload),
      execute: (args) => (args as Args).execute!(args),
      subscribe: (args) => {
        const { stream, opened, id, socket } = args as SubscriptionArgs
        opened()
        return results(socket.cursors.open(id, stream), deps.meter)
      },
      // The results of a stream are in their public form already.
      onNext: (_ctx, _id, _payload, args, result) =>
        (args as Args).stream
          ? (result as FormattedExecutionResult)
          : shownResult(result as ExecutionResult, deps.maskError),
      // Includes the errors of a stream that failed, which arrive as they were thrown.
      onError: (_ctx, _id, _payload, errors) => shownErrors(errors, deps.maskError).errors,
    })
  }

  /** Verifies the token of connection_init, or else of the upgrade. Returns false to close with 4403, as the protocol says. */
  async #authenticate(context: WsContext<Record<string, unknown>, WsSocket>): Promise<boolean> {
    const { connectionParams, extra: socket } = context
    socket.isInProgress = (id) => id in context.subscriptions
    try {
      const given = connectionParams?.authorization ?? connectionParams?.Authorization
      socket.grant = await this.#deps.auth.grant(typeof given === 'string' ? given : socket.authorization)
      await socket.granted(socket.grant)
      return true
    } catch (error) {
      if (error instanceof SpillwayError && error.code === 'RATE_LIMITED') socket.closeForRateLimit(error.message)
      return false
    }
  }

  /** Parses, validates and checks one operation. Returns the arguments to run it with, or its errors. */
  async #prepare(socket: WsSocket, id: string, payload: SubscribePayload): Promise<Args | GraphQLError[]> {
    const { yoga, documents, subscriptions, rateLimit, contextOf, maskError } = this.#deps
    const { query, variables, extensions } = payload
    const operationName = payload.operationName || undefined
    const params = { query, variables: variables ?? {}, operationName }
    const { held, length } = socket.message!
    const opened = socket.operations.opening(id)
    try {
      if (socket.messages > maxOperations) throw tooManyOperations()
      if (rateLimit.on) await rateLimit.count(socket.client)
      if (query === '' && extensions?.persistedQuery) throw notPersisted()
      // The protocol accepts no subscribe before a connection_init that was accepted.
      const contextValue = contextOf(socket.grant!, socket.operations.client(id))
      const subscription = subscriptions.find(params, socket.share)
      if (subscription) {
        checkSubscription(length)
        held.subscribe()
        socket.subscribed()
        const stream = await subscriptions.open(subscription, params, contextValue)
        const { schema, node: document } = subscription
        return { schema, document, operationName, stream, id, socket, opened }
      }
      opened()
      const { schema, node: document } = documents.parse(params)
      if (!getOperationAST(document, operationName)) throw noOperation()
      const { execute } = yoga.getEnveloped({ params })
      return { schema, document, variableValues: params.variables, operationName, contextValue, execute }
    } catch (error) {
      opened()
      return thrownErrors(error).map((thrown) => maskError(thrown) as GraphQLError)
    }
  }

  upgrade(request: IncomingMessage, raw: Duplex, head: Buffer, connection: Connection): void {
    this.#server.handleUpgrade(request, raw, head, (client) => {
      this.#serve(new WsSocket(this.#deps, client, request, raw, connection), client)
    })
  }

  /** A method of its own: a listener made in `upgrade` would keep the request for as long as the socket is open. */
  #serve(socket: WsSocket, client: WebSocket): void {
    this.#open.add(socket)
    client.once('close', () => this.#open.delete(socket))
    socket.serve(this.#protocol)
  }

  get open(): number {
    return this.#open.size
  }

  /** Closes every socket, so that clients reconnect to another process and resume with their cursors. */
  close(): void {
    for (const socket of this.#open) socket.closeAndTerminate(serviceRestart, 'The server stops; connect again.')
    this.#server.close()
  }
}

/** As Yoga has it over HTTP. */
function noOperation(): GraphQLError {
  return new GraphQLError('Could not determine what operation to execute.', {
    extensions: { code: 'OPERATION_RESOLUTION_FAILURE' },
  })
}

function tooManyOperations(): SpillwayError {
  const message = `At most ${maxOperations} operations at once are allowed on one socket; complete some first.`
  return new SpillwayError('RATE_LIMITED', message, { retryAfterMs: 1_000 })
}

function results(known: ReturnType<SocketCursors['open']>, meter: Meter): AsyncIterableIterator<ExecutionResult> {
  let ready: ExecutionResult[] = []
  const next = async () => {
    while (ready.length === 0) {
      const batch = await known.stream.next()
      if (!batch) return undefined
      ready = [...(batch.results as readonly ExecutionResult[])]
      known.sent = batch.cursor
      meter.delivered(ready.length)
    }
    return ready.shift()
  }
  return asyncIterator<ExecutionResult>(next, () => {
    known.close()
    known.stream.close()
  })
}
