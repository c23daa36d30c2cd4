/**
 * A Galera cluster of three MariaDBs on loopback. All nodes begin with the same data, each at the position at which it joins or before it, so
 * that no state is copied; a node that lacks transactions gets those alone (wsrep_sst_ist).
 */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { cp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { findGalera, findMariadb, need } from './binaries.ts'
import { launch } from './child.ts'
import { type Daemon, freePort, startDaemon } from './daemon.ts'
import { holds } from './eventually.ts'
import { connect, createDatabase, query, type Row, shared, type TestMariadb, template } from './mariadb.ts'
import { temporary } from './temporary.ts'

const run = promisify(execFile)

export interface GaleraNode extends TestMariadb {
  /** Kills it, finds out how far its data goes, and starts it again; resolves when it is synced. */
  rejoin(): Promise<void>
  /** The value of a status variable. */
  status(name: string): Promise<string>
}

export interface Galera {
  readonly nodes: readonly [GaleraNode, GaleraNode, GaleraNode]
  /** In place of a single server: statements go to a node that takes them. */
  readonly asServer: TestMariadb
  /** The URL of a database with all nodes, in this order. */
  url(database: string, order?: readonly number[]): string
  cleanup(): Promise<void>
}

/** A silent node is taken out of the cluster after 3 s. */
const provider = (port: number, istPort: number) =>
  Object.entries({
    'gmcast.listen_addr': `tcp://127.0.0.1:${port}`,
    'ist.recv_addr': `127.0.0.1:${istPort}`,
    'gcache.size': '16M',
    'evs.keepalive_period': 'PT0.5S',
    'evs.suspect_timeout': 'PT3S',
    'evs.inactive_timeout': 'PT4S',
  })
    .map(([name, value]) => `${name}=${value}`)
    .join(';')

/** `from`: a server that runs. It is stopped, and the first node has its data and its port, and the others what that one has in the beginning. */
export async function startGalera(args: readonly string[] = [], from?: Daemon): Promise<Galera> {
  const library = need(findGalera(), 'galera-4')
  const uuid = randomUUID()
  const ports = [await freePort(), await freePort(), await freePort()]
  const nodes: GaleraNode[] = []
  await from?.stop()
  const cleanup = async () => void (await Promise.all(nodes.map((node) => node.cleanup())))
  try {
    // The first one makes the cluster.
    const first = await startNode({ library, uuid, ports, i: 0, args, from })
    nodes.push(first)
    let copied: string | undefined
    if (from) {
      await first.stop()
      copied = await copyOf(first.dir)
      await first.restart()
    }
    for (const i of [1, 2]) nodes.push(await startNode({ library, uuid, ports, i, args, copied }))
    if (copied) await rm(copied, { recursive: true })
    await holds(async () => {
      for (const node of nodes) if ((await node.status('wsrep_cluster_size')) !== '3') throw new Error('too few nodes')
    })
  } catch (error) {
    await cleanup()
    throw error
  }
  const sql = async (statement: string, database?: string): Promise<Row[]> => {
    let failure: unknown
    for (const node of nodes) {
      try {
        return await queryInOrder(node.url, statement, database)
      } catch (error) {
        failure = error
      }
    }
    throw failure
  }
  const asServer = Object.create(nodes[0]!, {
    sql: { value: sql },
    createDatabase: { value: (name?: string) => createDatabase(nodes[0]!.url, name) },
    cleanup: { value: cleanup },
  }) as TestMariadb
  const url = (database: string, order: readonly number[] = [0, 1, 2]) =>
    `mysql://root@${order.map((i) => `127.0.0.1:${nodes[i]!.port}`).join(',')}/${database}`
  return { nodes: nodes as unknown as Galera['nodes'], asServer, url, cleanup }
}

/** One statement, after the node has all that was committed before it. */
async function queryInOrder(url: string, statement: string, database?: string): Promise<Row[]> {
  const connection = await connect(url, { ...(database && { database }), socketTimeout: 30_000 })
  try {
    await connection.query('SET wsrep_sync_wait = 1')
    return await connection.query(statement)
  } finally {
    connection.destroy()
  }
}

interface NodeSpec {
  library: string
  uuid: string
  ports: readonly number[]
  i: number
  args: readonly string[]
  from?: Daemon | undefined
  /** The directory of a node that was stopped. */
  copied?: string | undefined
}

/** A copy of the directory. */
async function copyOf(dir: string): Promise<string> {
  const copy = await temporary('spillway-galera-')
  await cp(dir, copy, { recursive: true })
  return copy
}

async function startNode({ library, uuid, ports, i, args, from, copied }: NodeSpec): Promise<GaleraNode> {
  const binary = need(findMariadb(), 'mariadbd')
  const dir = await copyOf(copied ?? from?.dir ?? (await template(binary)))
  if (!copied)
    await writeFile(
      join(dir, 'data', 'grastate.dat'),
      `# GALERA saved state\nversion: 2.1\nuuid:    ${uuid}\nseqno:   ${i}\nsafe_to_bootstrap: 1\n`,
    )
  const istPort = await freePort()
  const env = { ...process.env, PATH: `${import.meta.dirname}:${process.env.PATH}` }
  const fixed = [
    ...shared(dir),
    '--bind-address=127.0.0.1',
    `--socket=${join(dir, 's')}`,
    `--pid-file=${join(dir, 'pid')}`,
    '--innodb-buffer-pool-size=32M',
    '--performance-schema=OFF',
    '--binlog-format=ROW',
    '--innodb-autoinc-lock-mode=2',
    // A commit is durable in the other nodes' memory, as clusters are run as a rule.
    '--innodb-flush-log-at-trx-commit=2',
    '--wsrep-on=ON',
    `--wsrep-provider=${library}`,
    '--wsrep-cluster-name=spillway',
    `--wsrep-node-name=n${i + 1}`,
    `--wsrep-node-address=127.0.0.1:${ports[i]}`,
    `--wsrep-provider-options=${provider(ports[i]!, istPort)}`,
    '--wsrep-sst-method=ist',
    ...args,
  ]
  const others = ports.map((port) => `127.0.0.1:${port}`).join(',')
  let position: string[] = i === 0 ? ['--wsrep-new-cluster'] : []
  const daemon: Daemon = await startDaemon({
    name: `mariadbd (node ${i + 1})`,
    dir,
    throwAway: true,
    port: i === 0 ? from?.port : undefined,
    launch: (port) => {
      const cluster = position.includes('--wsrep-new-cluster') ? '' : others
      const more = [`--port=${port}`, `--wsrep-cluster-address=gcomm://${cluster}`, ...position]
      return launch(binary, [...fixed, ...more], { throwAway: dir, env })
    },
    ping: async (port) => {
      const [row] = await query(`mysql://root@127.0.0.1:${port}/`, "SHOW STATUS LIKE 'wsrep_local_state_comment'")
      if (row?.Value !== 'Synced') throw new Error(`the node is ${row?.Value}`)
    },
    readyMs: 60_000,
  })
  const url = `mysql://root@127.0.0.1:${daemon.port}/`
  return Object.defineProperties(daemon, {
    url: { value: url },
    createDatabase: { value: (name?: string) => createDatabase(url, name) },
    sql: { value: (statement: string, database?: string) => query(url, statement, database) },
    status: {
      value: async (name: string) => (await query(url, `SHOW GLOBAL STATUS LIKE '${name}'`))[0]!.Value,
    },
    rejoin: {
      value: async () => {
        await daemon.stop('SIGKILL')
        const recovering = await run(binary, [...fixed, `--wsrep-cluster-address=gcomm://${others}`, '--wsrep-recover'])
        const found = /Recovered position: ([\da-f-]+:-?\d+)/.exec(recovering.stderr)?.[1]
        position = found ? [`--wsrep-start-position=${found}`] : []
        await daemon.restart()
      },
    },
  }) as GaleraNode
}
