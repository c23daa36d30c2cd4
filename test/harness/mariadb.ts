/**
 * A MariaDB (or MySQL) of a test's own: durable commits, small buffers, and latin1 as the default character set on purpose, since a
 * database whose default is wrong must not hurt us. root needs no password and is reachable on the loopback only.
 */
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { cp, mkdir, mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Connection, type ConnectionConfig, createConnection } from 'mariadb'
import { find, findMariadb, need } from './binaries.ts'
import { launch } from './child.ts'
import { type Daemon, startDaemon } from './daemon.ts'
import { temporary } from './temporary.ts'

const run = promisify(execFile)

export interface TestMariadb extends Daemon {
  /** Of the server; it names no database. */
  readonly url: string
  /** The URL of a database made just now, with whatever character set the server has for a default. */
  createDatabase(name?: string): Promise<string>
  /** One statement as root, on a connection of its own. */
  sql(statement: string, database?: string): Promise<Row[]>
}

// biome-ignore lint/suspicious/noExplicitAny: a test knows what it asked for.
export type Row = Record<string, any>

/** `args` come after the defaults and win over them, as in `['--max-connections=10']`. */
export async function startMariadb(
  options: { args?: readonly string[]; env?: NodeJS.ProcessEnv } = {},
): Promise<TestMariadb> {
  const binary = need(findMariadb(), 'mariadbd')
  const made = await template(binary)
  const dir = await temporary('spillway-mariadb-')
  await cp(made, dir, { recursive: true })
  const args = [
    ...shared(dir),
    '--bind-address=127.0.0.1',
    `--socket=${join(dir, 's')}`,
    `--pid-file=${join(dir, 'pid')}`,
    `--init-file=${join(dir, 'root.sql')}`,
    '--character-set-server=latin1',
    '--innodb-buffer-pool-size=64M',
    '--innodb-flush-log-at-trx-commit=1',
    '--skip-log-bin',
    // MySQL only: its second protocol would take a port of its own.
    '--loose-mysqlx=OFF',
  ]
  const daemon = await startDaemon({
    name: 'mariadbd',
    dir,
    throwAway: true,
    launch: (port) =>
      launch(binary, [...args, `--port=${port}`, ...(options.args ?? [])], {
        env: { ...process.env, ...options.env },
        throwAway: dir,
      }),
    ping: (port) => query(serverUrl(port), 'SELECT 1'),
    readyMs: 60_000,
  })
  const url = serverUrl(daemon.port)
  return Object.defineProperties(daemon, {
    url: { value: url, enumerable: true },
    createDatabase: { value: (name?: string) => createDatabase(url, name), enumerable: true },
    sql: { value: (statement: string, database?: string) => query(url, statement, database), enumerable: true },
  }) as TestMariadb
}

const serverUrl = (port: number) => `mysql://root@127.0.0.1:${port}/`

/** A new database on a server, by its URL; with a name that nobody else uses unless one is given. */
export async function createDatabase(serverUrl: string, name = `t_${randomBytes(8).toString('hex')}`): Promise<string> {
  await query(serverUrl, `CREATE DATABASE \`${name}\``)
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  return url.href
}

/** A connection that may be lost at any moment: to what it is asked then it says so, and to nobody else. */
export async function connect(url: string, options: ConnectionConfig = {}): Promise<Connection> {
  const { hostname, port, username, password, pathname } = new URL(url)
  const name = decodeURIComponent(pathname.slice(1))
  const connection = await createConnection({
    host: hostname,
    port: Number(port || 3306),
    user: decodeURIComponent(username),
    ...(password && { password: decodeURIComponent(password) }),
    ...(name && { database: name }),
    allowPublicKeyRetrieval: true,
    connectTimeout: 5_000,
    // Without it the driver would send a SET NAMES of its own, and a connection lost over that is a rejection that nobody can handle.
    charset: 'utf8mb4',
    ...options,
  })
  connection.on('error', () => {})
  return connection
}

/** One statement on a connection of its own; gives up after 30 s. */
export async function query(
  serverUrl: string,
  statement: string,
  database?: string,
  sessionVariables: ConnectionConfig['sessionVariables'] = {},
): Promise<Row[]> {
  const options = { ...(database && { database }), sessionVariables, socketTimeout: 30_000 }
  const connection = await connect(serverUrl, options)
  try {
    return await connection.query(statement)
  } finally {
    connection.destroy()
  }
}

/**
 * A data directory fresh from the installer, which takes seconds, made once for a version of the server and copied from then on.
 * It appears under its name complete, by a rename: test processes that make it at the same time do the work twice and no harm.
 */
export async function template(binary: string): Promise<string> {
  const { stdout: version } = await run(binary, ['--no-defaults', '--version'])
  const uid = process.getuid?.() ?? 0
  const key = createHash('sha256').update(`1 ${version} ${process.arch}`).digest('hex').slice(0, 12)
  const path = join(tmpdir(), `spillway-mariadb-template-${uid}-${key}`)
  const there = await stat(path).catch(() => undefined)
  // Somebody else's directory under that name is not to be run.
  if (there && there.uid !== uid) throw new Error(`${path} belongs to another user; remove it, or set TMPDIR`)
  if (there) return path

  const draft = await mkdtemp(`${path}-`)
  try {
    await mkdir(join(draft, 'data'))
    await mkdir(join(draft, 'tmp'))
    if (/mariadb/i.test(version)) {
      const installer = need(find('mariadb-install-db', 'mysql_install_db'), 'mariadb-install-db')
      await run(installer, [...shared(draft), '--auth-root-authentication-method=normal', '--skip-test-db'])
    } else {
      await run(binary, [...shared(draft), '--initialize-insecure'])
      // The identity of the server, which a replica must not share with its source. The server makes a new one.
      await rm(join(draft, 'data/auto.cnf'))
    }
    // MySQL makes root for "localhost" only, which an address does not always match. Read at every start.
    const root =
      "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';\nGRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n"
    await writeFile(join(draft, 'root.sql'), root)
    await rename(draft, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    })
    return path
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
}

// What the installer and the server must agree on. A small log keeps the copy small. A server that starts clears its tmpdir of
// temporary tables, those of its neighbours too: each has one of its own.
export function shared(dir: string): string[] {
  const asRoot = process.getuid?.() === 0 ? ['--user=root'] : []
  return [
    '--no-defaults',
    `--datadir=${join(dir, 'data')}`,
    `--tmpdir=${join(dir, 'tmp')}`,
    // MariaDB's and MySQL's names; each ignores the other one's.
    '--loose-innodb-log-file-size=16M',
    '--loose-innodb-redo-log-capacity=16M',
    ...asRoot,
  ]
}
