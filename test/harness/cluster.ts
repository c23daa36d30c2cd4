/** A Redis Cluster of a test's own: so many masters, each with so many replicas, all on loopback. */
import { freePort } from './daemon.ts'
import { holds } from './eventually.ts'
import { startRedis, type TestRedis } from './redis.ts'

export interface TestCluster {
  /** The masters first, then their replicas in the same order. */
  readonly nodes: readonly TestRedis[]
  /** redis+cluster:// with all nodes. */
  readonly url: string
  /** The node that serves a key now. */
  ownerOf(key: string): Promise<TestRedis>
  replicaOf(master: TestRedis): Promise<TestRedis>
  idOf(node: TestRedis): Promise<string>
  /** Moves the slot of a key as `redis-cli --cluster reshard` does. `during` runs when half of the keys have moved. */
  moveSlot(key: string, to: TestRedis, during?: () => Promise<void>): Promise<void>
  cleanup(): Promise<void>
}

const slots = 16_384

export async function startCluster(options: {
  masters: number
  replicas?: number
  args?: readonly string[]
}): Promise<TestCluster> {
  const { masters, replicas = 0, args = [] } = options
  const starting = Array.from({ length: masters * (1 + replicas) }, async () =>
    startRedis({
      args: ['--cluster-enabled', 'yes', '--cluster-port', String(await freePort()), ...args],
    }),
  )
  const cleanup = async () =>
    void (await Promise.allSettled(starting.map(async (node) => await (await node).cleanup())))
  try {
    const cluster = new Cluster(await Promise.all(starting), masters, cleanup)
    await cluster.create()
    return cluster
  } catch (error) {
    await cleanup()
    throw error
  }
}

class Cluster implements TestCluster {
  readonly nodes: readonly TestRedis[]
  readonly #masters: number
  readonly cleanup: () => Promise<void>

  constructor(nodes: readonly TestRedis[], masters: number, cleanup: () => Promise<void>) {
    this.nodes = nodes
    this.#masters = masters
    this.cleanup = cleanup
  }

  get url(): string {
    return `redis+cluster://${this.nodes.map(({ port }) => `127.0.0.1:${port}`).join()}`
  }

  async create(): Promise<void> {
    const [first, ...others] = this.nodes
    const masters = this.nodes.slice(0, this.#masters)
    await Promise.all(
      masters.map((node, i) => {
        const from = Math.floor((slots * i) / masters.length)
        return node.cli('CLUSTER', 'ADDSLOTSRANGE', from, Math.floor((slots * (i + 1)) / masters.length) - 1)
      }),
    )
    for (const [i, node] of this.nodes.entries()) await node.cli('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
    for (const { port, cli } of others) {
      const [, bus] = (await cli('CONFIG', 'GET', 'cluster-port')) as [string, string]
      await first!.cli('CLUSTER', 'MEET', '127.0.0.1', port, bus)
    }
    const known = async (node: TestRedis) =>
      expectText(await node.cli('CLUSTER', 'INFO'), `cluster_known_nodes:${this.nodes.length}`, 'cluster_state:ok')
    await Promise.all(this.nodes.map((node) => holds(() => known(node), { timeoutMs: 60_000 })))
    await Promise.all(
      this.nodes.slice(this.#masters).map(async (replica, i) => {
        const id = await this.idOf(masters[i % masters.length]!)
        await holds(() => replica.cli('CLUSTER', 'REPLICATE', id))
        await holds(async () => expectText(await replica.cli('INFO', 'replication'), 'master_link_status:up'), {
          timeoutMs: 60_000,
        })
      }),
    )
  }

  async idOf(node: TestRedis): Promise<string> {
    return String(await node.cli('CLUSTER', 'MYID'))
  }

  async ownerOf(key: string): Promise<TestRedis> {
    const node = await this.#alive()
    const slot = Number(await node.cli('CLUSTER', 'KEYSLOT', key))
    const ranges = (await node.cli('CLUSTER', 'SLOTS')) as [number, number, [string, number]][]
    const [, , [, port]] = ranges.find(([from, to]) => from <= slot && slot <= to)!
    return this.nodes.find((other) => other.port === port)!
  }

  async replicaOf(master: TestRedis): Promise<TestRedis> {
    const id = await this.idOf(master)
    for (const node of this.nodes) {
      const role = (await node.cli('ROLE')) as [string, string, number]
      if (role[0] === 'slave' && role[2] === master.port) return node
    }
    throw new Error(`the master ${id} has no replica`)
  }

  async #alive(): Promise<TestRedis> {
    for (const node of this.nodes) {
      const info = await node.cli('CLUSTER', 'INFO').catch(() => '')
      if (String(info).includes('cluster_state:ok')) return node
    }
    throw new Error('no node of the cluster is up')
  }

  async moveSlot(key: string, to: TestRedis, during?: () => Promise<void>): Promise<void> {
    const from = await this.ownerOf(key)
    const slot = Number(await from.cli('CLUSTER', 'KEYSLOT', key))
    await to.cli('CLUSTER', 'SETSLOT', slot, 'IMPORTING', await this.idOf(from))
    await from.cli('CLUSTER', 'SETSLOT', slot, 'MIGRATING', await this.idOf(to))
    for (let round = 0; ; round++) {
      const keys = (await from.cli('CLUSTER', 'GETKEYSINSLOT', slot, 100)) as string[]
      if (keys.length === 0) break
      const some = round === 0 && during ? keys.slice(0, Math.ceil(keys.length / 2)) : keys
      await from.cli('MIGRATE', '127.0.0.1', to.port, '', 0, 10_000, 'KEYS', ...some)
      if (round === 0) await during?.()
    }
    const id = await this.idOf(to)
    for (const node of [to, from]) await node.cli('CLUSTER', 'SETSLOT', slot, 'NODE', id)
    for (const node of this.nodes) await node.cli('CLUSTER', 'SETSLOT', slot, 'NODE', id).catch(() => {})
  }
}

function expectText(answer: unknown, ...parts: string[]): void {
  const missing = parts.filter((part) => !String(answer).includes(part))
  if (missing.length > 0) throw new Error(`${missing.join()} is not in ${String(answer)}`)
}
