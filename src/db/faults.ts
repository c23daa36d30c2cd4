/**
 * What a database error means, by the code of the database itself: Prisma's own codes mix transient and permanent errors (P2039 is a full
 * pool, a read-only server, a lock wait and an oversize packet). A code in no table is `unknown`: a probe of the table decides whether the
 * server or a row causes it (worker/persist.ts).
 */
import { withAdvice } from '../sqlite/fault.ts'
import { SESSION_FAULT } from './session.ts'
import type { FaultKind } from './store.ts'
import { TABLE_FAULT } from './table.ts'

export interface Fault {
  kind: FaultKind
  vendorCode: string | undefined
  /** The database's own message, without SQL and parameters. For logs only. */
  message: string
  /** With `duplicate`: the unique index that has the value already, if the database names one that is not the id's. */
  index?: string
  /** With `rejected` and `reference`: the constraint or column whose rule the row breaks, if the database names it. */
  rule?: string
}

type Known = Exclude<FaultKind, 'unknown'>
type Code = number | readonly [first: number, last: number]

/** Numbers of MySQL, MariaDB (with Galera), TiDB, Vitess and ProxySQL; from 45001 on, those of the driver. The first match counts. */
// biome-ignore format: one reason a line
const mysql: Record<Known, readonly Code[]> = {
  duplicate: [1022, 1062, 1169, 1586, 1859],
  'too-large': [1153, 1162, 1390, 8004, 8025, 9500, 45046],
  reference: [1216, 1452],
  rejected: [
    1048, 1263, 1364, // null in a column without null, no value for a column without a default
    1264, 1265, 1292, 1300, 1365, 1366, 1367, 1406, 1411, 1690, 3854, 3988, // does not fit the column, or not its character set
    1118, 1301, 1416, 3140, 3141, 3156, 3903, 3907, [4036, 4041], // row or value too long, no geometry, no JSON
    [8032, 8034], 8036, 8129, // TiDB: a year, a date or time, a key of JSON that it does not take
    3819, 4025, 1644, 1369, // CHECK (MySQL, MariaDB), a trigger's SIGNAL, a view's CHECK OPTION
  ],
  unavailable: [
    [1, 999], // the operating system, its files, the storage engine: 3 write error, 5 memory, 23 open files, 28 disk full, 121-194 engine
    1015, 1020, 1099, 1100, 1180, 1181, 1192, 1205, 1206, 1207, 1213, 1223, 1689, 3058, 3132, 3572, // locks and deadlocks
    1614, 1637, 1402, [1397, 1401], // distributed transactions; too many transactions at once
    1036, 1209, 1290, 1792, 1836, 3161, 3989, // read-only
    1047, 3098, 3100, 3101, 3193, 3197, 3596, 3797, [1200, 1202], // Galera or group replication without a quorum, or not ready
    1040, 1129, 1130, 1135, 1203, 1226, 1461, 3168, 3169, // too many connections or threads, host blocked, server not available
    [1001, 1007], [1009, 1014], [1016, 1019], [1021, 1030], [1032, 1035], 1037, 1038, 1039, 1041, // files, memory and engine in trouble
    1105, 1114, 1119, 1194, 1195, 1257, 1296, 1297, 1436, 1534, 1598, 1610, 1665, 1712, 1785, 1786, 1787, 1799, 1803, // table or log
    1809, 1812, 1813, 1815, 1816, 1932, 1939, 1947, 3019, 3185, [3855, 3856], [3675, 3678], 3949, // tablespace, keyring, log
    1042, 1043, 1053, 1077, 1078, 1079, 1080, 1081, 1152, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1189, 1190, // lost
    1028, 1094, 1317, 1927, 1969, 3024, 3169, 4031, 4202, // killed, interrupted, timed out
    1046, 1049, 1050, 1051, 1054, 1060, 1091, 1109, 1136, 1146, 1149, 1305, 1356, 1412, 1449, 1471, 1615, // another schema
    1526, 1505, 1517, 1748, 3546, 4174, // no partition for new rows
    1044, 1045, 1095, 1141, 1142, 1143, 1211, 1227, 1251, 1370, 1410, 1524, 1698, 1820, 1862, 3118, 3159, 3879, 3955, 4151, // access
    [1872, 1874], [1477, 1482], 1957, 1958, 3167, 3185, // replication and encryption keys that are missing
    [2000, 2075], // the C client's codes of a lost connection, which proxies use
    // TiDB: 8001, 8175 memory; 8002, 8005, 8022, 8028, 9007 conflicts of transactions; 8027 schema; 8252 resource group; 9001 placement
    // driver; 9002 to 9005 storage. ProxySQL: 9001 no server in time.
    [8000, 8299], [9000, 9999],
    [45001, 45004], [45007, 45015], [45019, 45030], [45032, 45039], 45042, 45044, 45045, 45047, 45048, 45051, [45056, 45064],
  ],
}

interface Rule {
  what: 'constraint' | 'column'
  /** Its group is the name: only an identifier, because SQLite has the expression of a CHECK without a name. */
  pattern: RegExp
}

// A value that the message quotes stands before the column, so that no value is taken for a name: the pattern ends at the end.
const ofColumn: Rule = {
  what: 'column',
  pattern:
    /(?:^| for )(?:column|Column|Field) (?:`[^`]*`\.)*['`]([\w$]{1,64})['`](?: at row \d+| cannot be null| doesn't have a default value)$/,
}
const ofReference: Rule = {
  what: 'constraint',
  pattern: /^[^']*\(`[^`]*`\.`[^`]*`, CONSTRAINT `([\w$.-]{1,64})` FOREIGN KEY /,
}
const mysqlRules: Readonly<Record<string, Rule | undefined>> = {
  1216: ofReference,
  1452: ofReference,
  4025: { what: 'constraint', pattern: /^CONSTRAINT `([\w$.-]{1,64})` failed for / },
  3819: { what: 'constraint', pattern: /^Check constraint '([\w$.-]{1,64})' is violated/ },
  ...Object.fromEntries([1048, 1264, 1265, 1292, 1364, 1366, 1406].map((code) => [code, ofColumn])),
}
const sqliteRules: Readonly<Record<string, Rule | undefined>> = {
  275: { what: 'constraint', pattern: /^CHECK constraint failed: ([\w$-]{1,64})$/ },
  1299: { what: 'column', pattern: /^NOT NULL constraint failed: [^.]+\.([\w$]{1,64})$/ },
}

/** SQLite's extended codes, then its primary ones (the low eight bits of the former). */
// biome-ignore format: one reason a line
const sqlite: Record<Known, readonly Code[]> = {
  duplicate: [1555, 2067, 2579], // PRIMARYKEY, UNIQUE, ROWID
  'too-large': [18], // TOOBIG
  reference: [787], // FOREIGNKEY
  rejected: [19, 20], // CONSTRAINT (any other), MISMATCH
  unavailable: [[2, 17], [22, 24], 26],
  // INTERNAL, PERM, ABORT, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, NOTFOUND, FULL, CANTOPEN, PROTOCOL, EMPTY, SCHEMA,
  // NOLFS, AUTH, FORMAT, NOTADB: errors of the file, which no row causes
}

/** Errors of a connection from the operating system, the resolver or TLS: Node gives them a word in place of a number. */
const network =
  /^(E(?!RR?_)[A-Z0-9_]+|ERR_(TLS|SSL|SOCKET)\w*|CERT_\w+|UNABLE_TO_\w+|SELF_SIGNED\w*|DEPTH_ZERO\w*|HOSTNAME_MISMATCH)$/

/** Codes of Prisma without an answer of the database, and Spillway's own. */
const unavailableCodes = new Set([
  SESSION_FAULT,
  TABLE_FAULT,
  'P1000',
  'P1001',
  'P1002',
  'P1003',
  'P1008',
  'P1010',
  'P1011',
  'P1017',
  'P2024',
  'P2028',
  'P2034',
  'P2037',
])

/** Vitess has one code for all its errors; in these messages a row may be the cause. */
const vitessRow = /VT0[0-9]{4}|VT12001|INVALID_ARGUMENT|InvalidArgument|ALREADY_EXISTS|AlreadyExists/

/** Galera's limits of a transaction, with codes that stand for other errors, too. */
const galeraLimit = /^Maximum writeset size exceeded|^wsrep_max_ws_rows exceeded/

/** Errors of TiDB that have the same code. */
const tidbRow = /(?:key|entry) (?:is )?too large/

/** A connection was lost while a statement was sent: the server may have closed it because the packet is too large. */
const hangUps = new Set(['ECONNRESET', 'EPIPE', '45009', '45013', '2006', '2013'])

export const isHangUp = ({ vendorCode }: Fault) => hangUps.has(vendorCode ?? '')

export function classifyMysql(error: unknown): Fault {
  const { code, message } = vendor(error)
  if (network.test(code ?? '') || unavailableCodes.has(code ?? ''))
    return { kind: 'unavailable', vendorCode: code, message }
  if ((code === '1105' || code === '1180') && galeraLimit.test(message))
    return { kind: 'too-large', vendorCode: code, message }
  const kind = lookUp(mysql, Number(code)) ?? 'unknown'
  if (code === '1105' && (vitessRow.test(message) || tidbRow.test(message)))
    return { kind: 'unknown', vendorCode: code, message }
  if (kind !== 'duplicate') return withRule({ kind, vendorCode: code, message }, mysqlRules[code ?? ''])
  // "Duplicate entry 'x' for key 'Content.PRIMARY'"; MariaDB leaves out the table, and Vitess adds the number.
  const index = /for key '(?:[^']*\.)?([^'.]*)'(?: \(errno \d+\) \(sqlstate \w+\))?$/.exec(message)?.[1]
  return withIndex({ kind, vendorCode: code, message }, index, 'PRIMARY')
}

export function classifySqlite(error: unknown): Fault {
  const { code, message: words } = vendor(error)
  const message = withAdvice(words)
  if (network.test(code ?? '') || unavailableCodes.has(code ?? ''))
    return { kind: 'unavailable', vendorCode: code, message }
  const number = Number(code)
  let kind = lookUp(sqlite, number) ?? lookUp(sqlite, number & 0xff) ?? 'unknown'
  // SQLite has one code for every error in a statement; our statements are correct if the schema is.
  if (number === 1 && /no such (table|column|function|module)|has no column|has \d+ columns/.test(message))
    kind = 'unavailable'
  if (kind !== 'duplicate') return withRule({ kind, vendorCode: code, message }, sqliteRules[code ?? ''])
  // "UNIQUE constraint failed: Content.id", or "index 'name'" for one on an expression.
  const index = /constraint failed: (?:index ')?([^']*)'?$/.exec(message)?.[1]
  return withIndex({ kind, vendorCode: code, message }, index, /^[^.,]+\.id$/.test(index ?? '') ? index! : '')
}

const withIndex = (fault: Fault, index: string | undefined, ofTheId: string): Fault =>
  index === undefined || index === ofTheId ? fault : { ...fault, index }

function withRule(fault: Fault, rule: Rule | undefined): Fault {
  const name = rule?.pattern.exec(fault.message)?.[1]
  return name === undefined ? fault : { ...fault, rule: `${rule!.what} ${name}` }
}

function lookUp(table: Record<Known, readonly Code[]>, code: number): FaultKind | undefined {
  if (!Number.isInteger(code)) return undefined
  for (const kind of ['duplicate', 'too-large', 'reference', 'rejected', 'unavailable'] as const) {
    if (
      table[kind].some((known) => (typeof known === 'number' ? known === code : known[0] <= code && code <= known[1]))
    )
      return kind
  }
  return undefined
}

/** The database's own code and message, from an error of Prisma, of the adapter, or of the driver. */
function vendor(error: unknown): { code: string | undefined; message: string } {
  const outer = error as {
    message?: string
    code?: string
    errno?: number
    errcode?: number
    sqlMessage?: string
    cause?: AdapterCause & { message?: string; code?: string; sqlMessage?: string }
    meta?: { driverAdapterError?: { cause?: AdapterCause } }
  } | null
  const adapter = outer?.meta?.driverAdapterError?.cause ?? (outer?.cause?.originalCode ? outer.cause : undefined)
  // The error of a pool says in `cause` why it has no connection.
  const because = (cause: unknown) => (typeof cause === 'string' ? ` (${firstLine(cause)})` : '')
  if (adapter) {
    return {
      code: adapter.originalCode,
      message: firstLine(adapter.originalMessage ?? '') + because(adapter.cause),
    }
  }
  // Prisma puts the call in front of the message.
  const message = outer?.sqlMessage
    ? firstLine(outer.sqlMessage) + because(outer.cause?.sqlMessage)
    : lastLine(outer?.message ?? String(error))
  if (network.test(outer?.code ?? '')) return { code: outer?.code, message }
  if (outer?.errcode) return { code: String(outer.errcode), message }
  if (outer?.errno && outer.errno > 0) return { code: String(outer.errno), message }
  return { code: outer?.code, message }
}

interface AdapterCause {
  originalCode?: string
  originalMessage?: string
  cause?: unknown
}

/** Vitess puts the statement and its values behind the message. */
const firstLine = (text: string) =>
  (text.trim().split('\n')[0] ?? '').replace(/(?: \(CallerID: [^)]*\))?: Sql: ".*$/, '')
const lastLine = (text: string) => text.trim().split('\n').at(-1) ?? ''
