/**
 * NATS with one JetStream stream, a work queue with one consumer. It is as durable as the other queues: a message is on disk before it is
 * acknowledged (sync_interval: always). Debian 12 has a version without that setting, in place of which Debian's unstable suite has one.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AckPolicy, type JetStreamManager, jetstreamManager, RetentionPolicy, StorageType } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { fetchProgram } from '../test/engines/fetch.ts'
import { find } from '../test/harness/binaries.ts'
import { launch } from '../test/harness/child.ts'
import { startDaemon } from '../test/harness/daemon.ts'
import { temporary } from '../test/harness/temporary.ts'
import { NotRun, type Server } from './contender.ts'

export const natsConfig = 'sync_interval: always'
/** The first one with sync_interval: always. */
const leastVersion = [2, 10]
/** What the worker holds: what it inserts, and what it inserts next. */
const maxAckPending = 4_000

export interface Nats extends Server {
  /** How many messages are queued. */
  depth(): Promise<number>
  publish(payloads: readonly string[]): Promise<void>
}

let program: Promise<string> | undefined
let version: string | undefined

/** Of the one that was started. */
export const natsVersion = () => version ?? 'not run'

/** A nats-server that is new enough: the installed one, or else Debian's. */
function findNats(): Promise<string> {
  const installed = find('nats-server')
  if (installed && isNewEnough(versionOf(installed))) return Promise.resolve(installed)
  program ??= fetchProgram({
    name: 'nats-server',
    program: 'usr/sbin/nats-server',
    options: [],
    version: ['--version'],
  }).catch((error: Error) => {
    throw new NotRun(
      `nats-server ${leastVersion.join('.')} or newer is not installed, and Debian's cannot be had: ${error.message}`,
    )
  })
  return program
}

const versionOf = (binary: string) =>
  /\d+(\.\d+)+/.exec(execFileSync(binary, ['--version'], { encoding: 'utf8' }))?.[0] ?? ''

function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > leastVersion[0]! || (major === leastVersion[0] && minor >= leastVersion[1]!)
}

export async function startNats(): Promise<Nats> {
  const binary = await findNats()
  version = versionOf(binary)
  const dir = await temporary('spillway-nats-')
  const config = join(dir, 'nats.conf')
  writeFileSync(config, `jetstream {\n  store_dir: "${dir}"\n  ${natsConfig}\n}\n`)
  const daemon = await startDaemon({
    name: 'nats-server',
    dir,
    throwAway: true,
    launch: (port) => launch(binary, ['-a', '127.0.0.1', '-p', String(port), '-c', config], { throwAway: dir }),
    ping: async (port) => await (await connect({ port, reconnect: false })).close(),
    readyMs: 20_000,
  })
  const connection = await connect({ port: daemon.port })
  const manager = await jetstreamManager(connection)
  await addQueue(manager)
  const stream = manager.jetstream()
  return {
    name: 'NATS',
    pid: daemon.pid,
    env: { NATS_PORT: String(daemon.port) },
    depth: async () => (await manager.streams.info('saves')).state.messages,
    async publish(payloads) {
      await Promise.all(payloads.map((payload) => stream.publish('save', payload)))
    },
    async reset() {
      await manager.streams.purge('saves')
    },
    async stop() {
      await connection.close()
      await daemon.cleanup()
    },
  }
}

async function addQueue(manager: JetStreamManager): Promise<void> {
  await manager.streams.add({
    name: 'saves',
    subjects: ['save'],
    storage: StorageType.File,
    retention: RetentionPolicy.Workqueue,
  })
  await manager.consumers.add('saves', {
    durable_name: 'workers',
    ack_policy: AckPolicy.Explicit,
    max_ack_pending: maxAckPending,
  })
}
