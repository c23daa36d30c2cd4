/**
 * PostgreSQL with its default durability (fsync and synchronous_commit are on), for jobs and rows. The table has the columns and the
 * indexes of MariaDB's.
 */
import { execFile, execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { chown } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { makeWorkerUtils } from 'graphile-worker'
import { Pool } from 'pg'
import { find } from '../test/harness/binaries.ts'
import { launch } from '../test/harness/child.ts'
import { startDaemon } from '../test/harness/daemon.ts'
import { eventually } from '../test/harness/eventually.ts'
import { canInstall, install } from '../test/harness/install.ts'
import { temporary } from '../test/harness/temporary.ts'
import { NotRun, type Server, type Table } from './contender.ts'

/** Memory and log as MariaDB has them. */
export const postgresSettings = ['shared_buffers=1GB', 'max_wal_size=1GB']
const run = promisify(execFile)
let version: string | undefined

/** Of the one that was started. */
export const postgresVersion = () => version ?? 'not run'

export interface Postgres extends Server {
  table: Table
  /** How many jobs are queued. */
  depth(): Promise<number>
  /** One job of the task `save` for each of the payloads. */
  addJobs(payloads: readonly unknown[]): Promise<void>
}

/** The folder with initdb and postgres, of the newest version that is installed. */
function findPostgres(): string {
  const found = installed()
  if (found !== undefined) return found
  if (!canInstall()) throw new NotRun('PostgreSQL is not installed (Debian: postgresql)')
  try {
    install(['postgresql'])
  } catch (error) {
    throw new NotRun(`PostgreSQL is not installed, and cannot be: ${(error as Error).message}`)
  }
  const folder = installed()
  if (folder === undefined) throw new NotRun('PostgreSQL was installed, and its programs are not found')
  return folder
}

/** Debian keeps them off the PATH. */
function installed(): string | undefined {
  const debian = '/usr/lib/postgresql'
  try {
    const [newest] = readdirSync(debian).sort((a, b) => Number(b) - Number(a))
    if (newest !== undefined) return join(debian, newest, 'bin')
  } catch {
    // It is not there.
  }
  const initdb = find('initdb')
  return initdb && join(initdb, '..')
}

/** What starts a program as the owner of the folder. PostgreSQL refuses to run as root: its package has made a user for it. */
async function asOwner(dir: string): Promise<string[]> {
  if (process.getuid?.() !== 0) return []
  const idOf = (option: string) => Number(execFileSync('id', [option, 'postgres'], { encoding: 'utf8' }))
  try {
    await chown(dir, idOf('-u'), idOf('-g'))
  } catch {
    throw new NotRun('PostgreSQL does not run as root, and there is no user postgres')
  }
  return ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups']
}

export async function startPostgres(): Promise<Postgres> {
  const folder = findPostgres()
  const dir = await temporary('spillway-postgres-')
  const data = join(dir, 'data')
  const owner = await asOwner(dir)
  const start = (program: string, args: string[]): [string, string[]] => {
    const [command, ...rest] = [...owner, join(folder, program), ...args] as [string, ...string[]]
    return [command, rest]
  }
  await run(
    ...start('initdb', ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync']),
    {
      cwd: dir,
    },
  )
  const settings = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', ...postgresSettings]
  const options = settings.flatMap((setting) => ['-c', setting])
  const daemon = await startDaemon({
    name: 'postgres',
    dir,
    throwAway: true,
    launch: (port) =>
      launch(...start('postgres', ['-D', data, '-p', String(port), ...options]), { cwd: dir, throwAway: dir }),
    ping: async (port) => {
      const pool = new Pool({ connectionString: urlOf(port) })
      await pool.query('SELECT 1').finally(() => pool.end())
    },
    readyMs: 30_000,
  })
  const pool = new Pool({ connectionString: urlOf(daemon.port), max: 2 })
  pool.on('error', () => {})
  pool.on('connect', (client) => void client.on('error', () => {}))
  await pool.query(`
    CREATE TABLE content (
      id uuid PRIMARY KEY, content text NOT NULL, created_at timestamptz(3) NOT NULL, saved_at timestamptz(3) NOT NULL
    );
    CREATE INDEX ON content (created_at, id)`)
  version = (await pool.query('SHOW server_version')).rows[0].server_version.split(' ')[0]
  const worker = await makeWorkerUtils({ pgPool: pool })
  await worker.migrate()
  const count = async (from: string) => Number((await pool.query(`SELECT count(*) AS n FROM ${from}`)).rows[0].n)
  const jobs = 'graphile_worker._private_jobs'
  return {
    name: 'PostgreSQL',
    pid: daemon.pid,
    env: { POSTGRES_URL: urlOf(daemon.port) },
    table: {
      rows: () => count('content'),
      truncate: async () => void (await pool.query('TRUNCATE content')),
      async databaseIdle() {
        let idle = 0
        const busy = `pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()`
        const look = async () => {
          idle = (await count(busy)) + (await count(jobs)) === 0 ? idle + 1 : 0
          return idle >= 20
        }
        await eventually(look, { timeoutMs: 60_000 })
      },
    },
    depth: () => count(jobs),
    async addJobs(payloads) {
      await worker.addJobs(payloads.map((payload) => ({ identifier: 'save', payload })))
    },
    async reset() {
      await pool.query(`TRUNCATE content, ${jobs}`)
      await pool.query('CHECKPOINT')
    },
    async stop() {
      await worker.release()
      await pool.end()
      // SIGKILL would leave its shared memory.
      await daemon.stop('SIGINT')
      await daemon.cleanup()
    },
  }
}

const urlOf = (port: number) => `postgres://postgres@127.0.0.1:${port}/postgres`
