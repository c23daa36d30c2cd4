/** What tests ask of MariaDB and of MySQL in different words. The engine is that of the program which mariadb.ts starts. */
import { execFileSync } from 'node:child_process'
import { findMariadb, need } from './binaries.ts'

interface Engine {
  name: 'MariaDB' | 'MySQL'
  /** The table that has a row for each connection: id, user, db, command, state, info. */
  processlist: string
  /** The code of the error for a row that violates a CHECK. */
  checkViolated: string
  /** The rights that let a user write to a read-only server, and that exempt a user from init_connect. */
  administration: string
  /** The statement that adds the engine BLACKHOLE, where it is not built in. */
  addBlackhole: string
  /** Storage engines without transactions. */
  withoutTransactions: string[]
  /** The session variable that makes transactions read-only, and the one of the isolation level. */
  readOnly: string
  isolation: string
  /** Makes a server the replica of the one at a port, from the first change on. */
  replicate(port: number): string
  /** Settings that sessions inherit and that would change what a statement does, of this engine only. */
  hostile: string[]
}

const mariadb: Engine = {
  name: 'MariaDB',
  processlist: 'information_schema.processlist',
  checkViolated: '4025',
  administration: 'SUPER, READ_ONLY ADMIN, CONNECTION ADMIN',
  addBlackhole: "INSTALL SONAME 'ha_blackhole'",
  withoutTransactions: ['BLACKHOLE', 'MyISAM', 'Aria'],
  readOnly: 'tx_read_only',
  isolation: 'tx_isolation',
  replicate: (port) =>
    `CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = ${port}, MASTER_USER = 'root', MASTER_USE_GTID = slave_pos`,
  hostile: [
    'max_statement_time = 0.000001',
    'check_constraint_checks = 0',
    "sql_mode = 'ORACLE,NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'",
    'max_session_mem_used = 8192',
    'tmp_disk_table_size = 1024',
  ],
}

const mysql: Engine = {
  name: 'MySQL',
  processlist: 'performance_schema.processlist',
  checkViolated: '3819',
  administration: 'SUPER, CONNECTION_ADMIN',
  // It is built in.
  addBlackhole: 'DO 1',
  withoutTransactions: ['BLACKHOLE', 'MyISAM'],
  readOnly: 'transaction_read_only',
  isolation: 'transaction_isolation',
  replicate: (port) =>
    `CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = ${port}, SOURCE_USER = 'root', GET_SOURCE_PUBLIC_KEY = 1`,
  hostile: [
    'max_execution_time = 1',
    "sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH,TIME_TRUNCATE_FRACTIONAL'",
    'sql_require_primary_key = 1',
    'sql_generate_invisible_primary_key = 1',
    'tmp_table_size = 1024',
  ],
}

const version = execFileSync(need(findMariadb(), 'mariadbd'), ['--no-defaults', '--version'], { encoding: 'utf8' })
export const engine = /mariadb/i.test(version) ? mariadb : mysql
