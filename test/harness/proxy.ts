/**
 * A TCP proxy between Spillway and a server, to make a network fail while it is in use. Invariant: bytes are never reordered or made up;
 * what a client is sent is a prefix of what the server sent.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export type Mode =
  | { kind: 'pass' }
  /** Every reply comes this much later. */
  | { kind: 'delay'; ms: number }
  /** Every reply comes in pieces of so many bytes, a millisecond or more apart. */
  | { kind: 'trickle'; bytes: number }
  /** Nothing goes through in either direction and nothing is closed; after that, all of it arrives, as when a cable is back. */
  | { kind: 'blackhole' }
  /** Closes every connection, and each new one as soon as it is there. */
  | { kind: 'cut' }
  /**
   * The server gets the request and executes it; instead of its reply the client gets a closed connection. Connections that sent no
   * such request are left alone. `when` says which piece of a request counts (default: any), `reply` which piece of its reply (default:
   * the first), `half` lets the first half of that piece through, `times` is how often it happens before the proxy passes everything
   * again (default: for ever).
   */
  | {
      kind: 'cut-before-reply'
      times?: number
      when?: (request: Buffer) => boolean
      reply?: (reply: Buffer) => boolean
      half?: boolean
    }

export interface TestProxy {
  readonly port: number
  /** The given URL with this proxy in place of the server. */
  url(of: string): string
  /** For connections there are and those to come. */
  set(mode: Mode | 'pass' | 'blackhole' | 'cut' | 'cut-before-reply'): void
  readonly mode: Mode
  /** Closes the connections there are, whatever the mode. */
  disconnect(): void
  /** Another server from now on: what a failover looks like from outside. */
  retarget(target: string): void
  /** How many connections are open. */
  connections(): number
  /** How many there ever were. */
  accepted(): number
  /** How many replies `cut-before-reply` has kept back. */
  kept(): number
  close(): Promise<void>
}

/** `target` is a URL with a port (redis://…, mysql://…) or { host, port }. */
export async function startProxy(target: string | { host?: string; port: number }): Promise<TestProxy> {
  let upstream = addressOf(target)
  let mode: Mode = { kind: 'pass' }
  let keptReplies = 0
  let keptBefore = 0
  let accepted = 0
  const pairs = new Set<Pair>()

  const server = createServer((client) => {
    accepted++
    const pair = new Pair(client, upstream, {
      mode: () => mode,
      kept() {
        keptReplies++
        if (mode.kind === 'cut-before-reply' && mode.times !== undefined && keptReplies >= keptBefore + mode.times) {
          set('pass')
        }
      },
    })
    pairs.add(pair)
    client.once('close', () => pairs.delete(pair))
    pair.adjust()
  })
  const set: TestProxy['set'] = (next) => {
    mode = typeof next === 'string' ? { kind: next } : next
    keptBefore = keptReplies
    for (const pair of pairs) pair.adjust()
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    port,
    url(of) {
      const url = new URL(of)
      url.host = `127.0.0.1:${port}`
      return url.href
    },
    set,
    get mode() {
      return mode
    },
    disconnect() {
      for (const pair of pairs) pair.destroy()
    },
    retarget(to) {
      upstream = addressOf(to)
      for (const pair of pairs) pair.destroy()
    },
    connections: () => pairs.size,
    accepted: () => accepted,
    kept: () => keptReplies,
    async close() {
      const closed = once(server, 'close')
      server.close()
      for (const pair of pairs) pair.destroy()
      await closed
    },
  }
}

function addressOf(target: string | { host?: string; port: number }): { host: string; port: number } {
  if (typeof target === 'string') return { host: new URL(target).hostname, port: Number(new URL(target).port) }
  return { host: target.host ?? '127.0.0.1', port: target.port }
}

/** One client, and the server as it sees it. */
class Pair {
  readonly #client: Socket
  readonly #server: Socket
  readonly #proxy: { mode(): Mode; kept(): void }
  /** A request went through whose reply is to be kept back. */
  #armed = false
  /** It was kept back. What the server still says goes nowhere. */
  #kept = false
  #delayed: Promise<void> = Promise.resolve()

  constructor(client: Socket, upstream: { host: string; port: number }, proxy: { mode(): Mode; kept(): void }) {
    this.#client = client
    this.#server = connect(upstream)
    this.#proxy = proxy
    client.setNoDelay(true)
    this.#server.setNoDelay(true)
    client.on('error', () => {})
    this.#server.on('error', () => {})
    client.on('data', (chunk: Buffer) => this.#request(chunk))
    this.#server.on('data', (chunk: Buffer) => this.#reply(chunk))
    client.on('end', () => this.#server.end())
    // Gently where the server may still have requests to read: a reset would make it throw them away.
    client.on('close', () => (this.#armed || this.#kept ? this.#server.end() : this.#server.destroy()))
    // Behind what is still delayed.
    this.#server.on('close', (failed) => this.#delayed.then(() => (failed ? client.destroy() : client.end())))
    for (const [source, sink] of [
      [client, this.#server],
      [this.#server, client],
    ] as const) {
      sink.on('drain', () => this.#open() && source.resume())
    }
  }

  /** Does what the mode asks for at once. */
  adjust(): void {
    const { kind } = this.#proxy.mode()
    if (kind === 'cut') this.destroy()
    this.#armed = false
    for (const socket of [this.#client, this.#server]) {
      if (kind === 'blackhole') socket.pause()
      else socket.resume()
    }
  }

  destroy(): void {
    this.#client.destroy()
    this.#server.destroy()
  }

  /** What is left when the mode changes goes at once. */
  async #trickle(chunk: Buffer): Promise<void> {
    this.#server.pause()
    for (let at = 0; at < chunk.length && !this.#client.destroyed; ) {
      const mode = this.#proxy.mode()
      const to = mode.kind === 'trickle' ? at + mode.bytes : chunk.length
      this.#client.write(chunk.subarray(at, to))
      at = to
      if (at < chunk.length) await new Promise((resolve) => setTimeout(resolve, 1))
    }
    if (this.#open()) this.#server.resume()
  }

  #open(): boolean {
    return this.#proxy.mode().kind !== 'blackhole'
  }

  #request(chunk: Buffer): void {
    const mode = this.#proxy.mode()
    if (mode.kind === 'cut-before-reply' && (mode.when?.(chunk) ?? true)) this.#armed = true
    if (!this.#server.write(chunk)) this.#client.pause()
  }

  #reply(chunk: Buffer): void {
    if (this.#kept) return
    const mode = this.#proxy.mode()
    if (this.#armed && !(mode.kind === 'cut-before-reply' && mode.reply?.(chunk) === false)) {
      this.#kept = true
      if (mode.kind === 'cut-before-reply' && mode.half) this.#client.end(chunk.subarray(0, chunk.length / 2))
      else this.#client.destroy()
      this.#proxy.kept()
      return
    }
    if (mode.kind === 'trickle') {
      this.#delayed = this.#delayed.then(() => this.#trickle(chunk))
      return
    }
    const wait = mode.kind === 'delay' && new Promise<void>((resolve) => setTimeout(resolve, mode.ms))
    this.#delayed = Promise.all([this.#delayed, wait]).then(() => {
      if (!this.#client.destroyed && !this.#client.write(chunk)) this.#server.pause()
    })
  }
}
