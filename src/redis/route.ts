/**
 * Where a connection goes. To a server; to the master that the Sentinels name; in a cluster, to the node that serves the connection's hash
 * tag: any node names it by MOVED. Invariant: in a cluster every node that was ever named is tried in turn, so that a dead one does not matter.
 */
import { isIP } from 'node:net'
import type { Redis, RedisOptions } from 'ioredis'
import { addressOf, type Host } from '../model/hosts.ts'
import type { RedisAddress } from './address.ts'
import type { Problem } from './setup.ts'

/** How long a Sentinel may take to answer. */
const sentinelAnswerMs = 2_000

export class Route {
  readonly #address: RedisAddress
  readonly #nodes: Host[]
  #at: Host

  constructor(address: RedisAddress) {
    this.#address = address
    this.#nodes = [...address.hosts]
    this.#at = this.#nodes[0]!
  }

  /** The client's options; those of a host for the next connection. */
  options(retryMs: (times: number) => number): RedisOptions {
    const { kind, hosts, master, sentinel, tls } = this.#address
    if (kind !== 'sentinel') return this.host()
    return {
      sentinels: hosts,
      name: master!,
      role: 'master',
      ...(sentinel.username !== undefined && { sentinelUsername: sentinel.username }),
      ...(sentinel.password !== undefined && { sentinelPassword: sentinel.password }),
      // Without a name: the client would use it in place of the master's.
      ...(tls && { tls: {}, sentinelTLS: {}, enableTLSForSentinelMode: true }),
      // A master that was replaced, and cannot be reached by the Sentinels, does not close its connections.
      failoverDetector: true,
      sentinelRetryStrategy: retryMs,
      sentinelCommandTimeout: sentinelAnswerMs,
    }
  }

  host(): RedisOptions {
    const { host, port } = this.#at
    // The server's name: for servers with several certificates, or behind a proxy.
    const tls = { host, ...(isIP(host) ? {} : { servername: host }) }
    return { host, port, ...(this.#address.tls && { tls }) }
  }

  get inCluster(): boolean {
    return this.#address.kind === 'cluster'
  }

  /** To the next node of a cluster. */
  next(): void {
    const index = this.#nodes.findIndex((node) => addressOf(node) === addressOf(this.#at))
    this.#at = this.#nodes[(index + 1) % this.#nodes.length]!
  }

  /** To the node that a reply names: MOVED, the slot, and HOST:PORT. */
  moved(reply: string): void {
    const [, host = '', port] = /^MOVED \d+ (.*):(\d+)/.exec(reply) ?? []
    this.#at = this.#add(host, Number(port)) ?? this.#at
  }

  /** Takes the nodes from the answer to CLUSTER SLOTS: [first slot, last slot, [host, port, …], …] of each range. */
  learn(slots: unknown): void {
    if (!Array.isArray(slots)) return
    const current = this.#at
    this.#nodes.length = 0
    this.#nodes.push(current)
    for (const range of slots) for (const node of range.slice(2)) this.#add(String(node[0] ?? ''), Number(node[1]))
    for (const { host, port } of this.#address.hosts) this.#add(host, port)
  }

  /** No host means the one that answers. */
  #add(name: string, port: number): Host | undefined {
    const host = name || this.#at.host
    // A node that does not know its own name says "?".
    if (host === '?' || !(port > 0)) return undefined
    const known = this.#nodes.find((node) => addressOf(node) === addressOf({ host, port }))
    if (!known) this.#nodes.push({ host, port })
    return known ?? { host, port }
  }
}

/** The client logs errors of its connections that wait for a failover, with their hosts. It makes them before its event `connect`. */
export function ignoreErrorsOfDetector(client: Redis): void {
  const { connector } = client as unknown as {
    connector: { failoverDetector?: { sentinels: { client: Redis }[] } | null }
  }
  for (const { client } of connector.failoverDetector?.sentinels ?? []) client.on('error', () => {})
}

/** What an error of the client's search for the master means. */
export function sentinelProblem(message: string): Problem {
  if (/No such master|invalid reply: null/.test(message))
    return {
      code: 'NO_SUCH_MASTER',
      reason:
        'the Sentinels know no master of this name: expected the name that "sentinel monitor NAME …" gives it, at the end of the URL, as ' +
        'in redis+sentinel://HOST:26379/NAME',
    }
  if (/unknown command/i.test(message))
    return {
      code: 'NOT_SENTINEL',
      reason:
        'the server is no Sentinel: expected the addresses of Sentinels (port 26379); a Redis is named by redis://',
    }
  if (/\b(WRONGPASS|NOAUTH|NOPERM|AUTH)\b/.test(message))
    return {
      code: 'SENTINEL_AUTH',
      reason: 'a Sentinel refused the user or password: check sentinelUser and sentinelPassword in the URL',
    }
  return { code: 'NO_SENTINEL', reason: 'no Sentinel answers' }
}
