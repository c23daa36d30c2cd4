/**
 * The session of a MySQL or MariaDB connection. A session inherits its variables from the server (its options, SET GLOBAL, init_connect,
 * a user's own limits). Invariant: no statement of the store is sent on a connection before each variable in REQUIRED was set and read back.
 */

import { parseCreateTable, showTable } from './mysql-table.ts'

/** A connection. Statements may be sent before earlier ones were answered. */
export interface Session {
  run(sql: string): Promise<unknown>
  /** The first row. */
  read(sql: string): Promise<unknown[] | undefined>
}

/** The server answers with an error after this wait for a lock: sooner than a silent server loses its connection (SILENCE_MS). */
const LOCK_WAIT_S = 5

type Variable = readonly [name: string, value: string]

/** The variables that change which rows a statement reads or writes, and their values, in the order of setting. A variable that the server
 *  does not know is skipped: MySQL and MariaDB differ, and so do their versions. */
const REQUIRED: readonly Variable[] = [
  // Text and time.
  ['character_set_client', 'utf8mb4'],
  ['character_set_results', 'utf8mb4'],
  ['character_set_connection', 'utf8mb4'],
  ['time_zone', '+00:00'],
  // The whole mode is set: NO_BACKSLASH_ESCAPES, ANSI_QUOTES and PAD_CHAR_TO_FULL_LENGTH change what is written or read.
  ['sql_mode', 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'],
  // Each statement is a transaction that is committed with it. Every format of the binary log allows REPEATABLE READ.
  ['autocommit', '1'],
  ['completion_type', 'NO_CHAIN'],
  ['transaction_isolation', 'REPEATABLE-READ'],
  ['tx_isolation', 'REPEATABLE-READ'],
  ['transaction_read_only', '0'],
  ['tx_read_only', '0'],
  // Every constraint is checked.
  ['foreign_key_checks', '1'],
  ['unique_checks', '1'],
  ['check_constraint_checks', '1'],
  // A statement returns and changes all rows that it names, in the whole order that it names. max_join_size turns sql_big_selects off.
  ['sql_select_limit', '18446744073709551615'],
  ['max_join_size', '18446744073709551615'],
  ['sql_big_selects', '1'],
  ['sql_safe_updates', '0'],
  ['sql_auto_is_null', '0'],
  ['max_sort_length', '1024'],
  // Galera: a read waits until the node has all that was committed before it, so that it finds the rows that another node committed.
  ['wsrep_sync_wait', '1'],
  // The server does not end a statement for its time or its memory.
  ['max_statement_time', '0'],
  ['max_execution_time', '0'],
  ['max_session_mem_used', '9223372036854775807'],
  // Migrations: a table of another engine has no transactions, and IF EXISTS hides a table that is missing.
  ['default_storage_engine', 'InnoDB'],
  ['sql_if_exists', '0'],
  // SHOW CREATE TABLE has names in backticks.
  ['sql_quote_show_create', '1'],
]

/** Variables of limits, or without an effect on Spillway's statements: set, and not read back. Proxies ignore some of these. */
const PREFERRED: readonly Variable[] = [
  ['collation_connection', 'utf8mb4_bin'],
  ['innodb_lock_wait_timeout', String(LOCK_WAIT_S)],
  ['lock_wait_timeout', String(LOCK_WAIT_S)],
  ['wait_timeout', '28800'],
  ['net_read_timeout', '30'],
  ['net_write_timeout', '60'],
  ['sort_buffer_size', '262144'],
]

/** The server does not have the variable, or has it for all sessions together. */
const UNKNOWN = [1193, 1238]

/** The code of a SessionFault, in the place of a server's error number. */
export const SESSION_FAULT = 'SESSION'

/** A required variable cannot be set: nothing may be read or written over this connection. */
export class SessionFault extends Error {
  override readonly name = 'SessionFault'
  readonly code = SESSION_FAULT
}

/** Sets the variables of a new connection's session and reads them back. `setting` names the setting with the connection's URL, `tables` those of the store. Throws
 *  SessionFault, or the error of the connection. */
export async function beginSession(
  session: Session,
  { database, setting, tables }: { database: string; setting: string; tables: readonly string[] },
): Promise<void> {
  const [errors] = await Promise.all([
    Promise.all([...REQUIRED, ...PREFERRED].map((variable) => set(session, variable))),
    // init_connect may have left a transaction open, or another database selected. completion_type is set by now.
    session.run('ROLLBACK'),
    session.run(`USE \`${database.replaceAll('`', '``')}\``),
  ])
  const known = REQUIRED.map(([name, value], i) => ({ name, value, error: errors[i] })).filter(
    ({ error }) => !UNKNOWN.includes(error?.errno ?? 0),
  )
  const found = await session.read(`SELECT ${known.map(({ name }) => `@@SESSION.${name}`).join(', ')}`)
  const wrong = known
    .map((variable, i) => ({ ...variable, found: String(found?.[i]) }))
    .filter((variable) => !equal(variable.found, variable.value))
  if (wrong.length > 0) throw new SessionFault(`${setting}: ${wrong.map(describe).join('; ')}. ${ADVICE}`)
  await Promise.all(tables.map((table) => assertNoTemporaryTable(session, setting, table)))
}

/** init_connect may create one; its rows are lost when the session ends. If the table cannot be shown, an insert fails, too. */
async function assertNoTemporaryTable(session: Session, setting: string, table: string): Promise<void> {
  const shown = await session.read(showTable(table)).catch((error: ServerError) => {
    if (error.errno === undefined) throw error
    return undefined
  })
  if (!shown || parseCreateTable(String(shown[1])).kind !== 'temporary table') return
  throw new SessionFault(
    `${setting}: a temporary table named ${table} hides the table in every new session; remove its CREATE from init_connect of the server, or from the proxy`,
  )
}

interface ServerError extends Error {
  errno?: number
  sqlMessage?: string
}

/** Resolves with the server's error, if there is one: the value that is read back decides, since a variable that may not be set may have it. */
function set(session: Session, [name, value]: Variable): Promise<ServerError | undefined> {
  const literal = /^\d+$/.test(value) ? value : `'${value}'`
  return session.run(`SET @@SESSION.${name} = ${literal}`).then(
    () => undefined,
    (error: ServerError) => error,
  )
}

/** Numbers by value (0 and 0.000000), sets of words in any order and case. */
function equal(found: string, value: string): boolean {
  const words = (text: string) => text.toUpperCase().split(',').sort().join()
  return words(found) === words(value) || (found !== '' && Number(found) === Number(value))
}

function describe(variable: { name: string; value: string; found: string; error: ServerError | undefined }): string {
  const { name, value, found, error } = variable
  const why = error?.sqlMessage ? ` (setting it failed: ${error.sqlMessage})` : ''
  return `the session variable ${name} is "${found}" although Spillway set it to "${value}"${why}`
}

const ADVICE =
  'The database server, or a proxy in front of it, must let each session have these values: set them on the server, ' +
  'grant the user the right to set them, or let the proxy forward SET statements'
