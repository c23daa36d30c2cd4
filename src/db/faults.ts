/**
 * What a database error means, by the code of the database itself: Prisma's own codes mix what passes with what does not (P2039 is a
 * full pool, a read-only server, a lock wait and an oversize packet). A code that stands in no table is `unknown`.
 */
import { SESSION_FAULT } from './session.ts'
import type { FaultKind } from './store.ts'

export interface Fault {
  kind: FaultKind
  vendorCode: string | undefined
  /** The database's own words: no SQL, no parameters. For logs and dead letters. */
  message: string
}

/** MySQL's and MariaDB's numbers; from 45000 on, those of the driver. */
// biome-ignore format: one reason a line
const mysql: Record<Exclude<FaultKind, 'unknown'>, readonly number[]> = {
  duplicate: [1022, 1062, 1586],
  rejected: [
    1048, 1364, 1263, // null where none may be
    1264, 1265, 1366, 1292, 1300, 1406, 1690, 3988, // does not fit the column, or not its character set
    1216, 1452, 3819, 4025, 1644, // foreign key, CHECK (MySQL, MariaDB), a trigger's SIGNAL
  ],
  'too-large': [1153, 1390, 45046],
  unavailable: [
    1205, 1213, 1020, 3572, 1637, 1015, // lock wait, deadlock, changed under us, too many transactions
    1290, 1792, 1836, 3100, 3101, // read-only, and a cluster that will not commit
    1040, 1203, 1226, 1129, 1130, // too many connections, host blocked or not allowed
    1021, 1030, 1037, 1041, 1114, 1180, // disk, memory or table full, engine in trouble
    1053, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927, 1969, 3024, 4031, // shutting down, killed, interrupted, timed out
    1034, 1049, 1054, 1146, 1194, 1932, // table, column or database missing: a migration under way must not bury everything
    1044, 1045, 1142, 1143, 1227, 1251, 1524, 1698, 1820, 1862, 3118, 3159, // access: somebody is changing a password or a grant
    2002, 2003, 2006, 2013, 2055, // the C client's words for a lost connection, which proxies use
    45001, 45004, 45009, 45012, 45013, 45019, 45026, 45027, 45028, 45029, 45030, 45035, 45037, 45042, 45044, 45060, 45061,
  ],
}

/** SQLite's extended codes, then its primary ones (the low eight bits of the former). */
const sqlite: Record<Exclude<FaultKind, 'unknown'>, readonly number[]> = {
  duplicate: [1555, 2067, 2579], // PRIMARYKEY, UNIQUE, ROWID
  rejected: [19, 20], // CONSTRAINT (any other), MISMATCH
  'too-large': [18], // TOOBIG
  unavailable: [3, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 17, 23, 26],
  // PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, SCHEMA, AUTH, NOTADB: trouble with the
  // file, none of it a row's fault
}

/** What the operating system says of a connection; an error of this kind reaches us as Node made it, without a number. */
const network = new Set(
  'ECONNREFUSED ECONNRESET ECONNABORTED EPIPE ETIMEDOUT EHOSTUNREACH ENETUNREACH ENOTFOUND EAI_AGAIN ENOENT EACCES'.split(
    ' ',
  ),
)

/** How a lost connection shows that the server may have ended over what was being sent. */
const hangUps = new Set(['ECONNRESET', 'EPIPE', '45009', '45013', '2006', '2013'])

export const isHangUp = ({ vendorCode }: Fault) => hangUps.has(vendorCode ?? '')

export function classifyMysql(error: unknown): Fault {
  const { code, message } = vendor(error)
  if (network.has(code ?? '') || code === SESSION_FAULT) return { kind: 'unavailable', vendorCode: code, message }
  return { kind: lookUp(mysql, Number(code)) ?? 'unknown', vendorCode: code, message }
}

export function classifySqlite(error: unknown): Fault {
  const { code, message } = vendor(error)
  const number = Number(code)
  let kind = lookUp(sqlite, number) ?? lookUp(sqlite, number & 0xff) ?? 'unknown'
  // SQLite has one code for every error in a statement; ours are right once the schema is.
  if (number === 1 && /no such (table|column)|has no column/.test(message)) kind = 'unavailable'
  return { kind, vendorCode: code, message }
}

function lookUp(table: Record<Exclude<FaultKind, 'unknown'>, readonly number[]>, code: number): FaultKind | undefined {
  for (const kind of ['duplicate', 'rejected', 'too-large', 'unavailable'] as const) {
    if (table[kind].includes(code)) return kind
  }
  return undefined
}

/** Digs out the database's code and words, from Prisma's wrapping, from the adapter's, or from a driver's own error. */
function vendor(error: unknown): { code: string | undefined; message: string } {
  const outer = error as {
    message?: string
    code?: string
    errno?: number
    errcode?: number
    sqlMessage?: string
    cause?: AdapterCause & { message?: string; code?: string }
    meta?: { driverAdapterError?: { cause?: AdapterCause } }
  } | null
  const adapter = outer?.meta?.driverAdapterError?.cause ?? (outer?.cause?.originalCode ? outer.cause : undefined)
  if (adapter) {
    // A pool that gave up says why it has no connection in `cause`.
    const why = typeof adapter.cause === 'string' ? ` (${firstLine(adapter.cause)})` : ''
    return { code: adapter.originalCode, message: firstLine(adapter.originalMessage ?? '') + why }
  }
  // Prisma puts the call in front of what happened.
  const message = outer?.sqlMessage ? firstLine(outer.sqlMessage) : lastLine(outer?.message ?? String(error))
  if (network.has(outer?.code ?? '')) return { code: outer?.code, message }
  if (outer?.errcode) return { code: String(outer.errcode), message }
  if (outer?.errno && outer.errno > 0) return { code: String(outer.errno), message }
  return { code: outer?.code, message }
}

interface AdapterCause {
  originalCode?: string
  originalMessage?: string
  cause?: unknown
}

const firstLine = (text: string) => text.trim().split('\n')[0] ?? ''
const lastLine = (text: string) => text.trim().split('\n').at(-1) ?? ''
