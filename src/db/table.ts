/**
 * What the table must be for an insert to mean that rows are saved. Invariant: an insert is begun only where the table was seen fit within
 * FRESH_MS, and it counts only when the table is seen fit after it. An operator may replace a table while Spillway runs, and some tables
 * (ENGINE=BLACKHOLE, a view with a trigger) accept rows and keep none.
 */

/** The table as the database describes it. */
export interface Table {
  /** Anything but `table` is not one that keeps rows: a view, a temporary table, a virtual table. */
  kind: string
  /** Where the database has several. */
  engine?: string | undefined
  /** Unique indexes over whole columns, the primary key among them. `columns` holds null for an expression. */
  unique: readonly { name: string; columns: readonly (string | null)[] }[]
  /** It may delete or change rows within the insert. */
  hasTriggers: boolean
}

/** How a database is asked. */
export interface TableQueries {
  /** Cheap; another text whenever the table was changed. */
  fingerprint(): Promise<string>
  /** The table as of that fingerprint, or later. */
  describe(fingerprint: string): Promise<Table>
}

/** The code of a TableFault, where a server's error has its number. */
export const TABLE_FAULT = 'TABLE'

/** The table must be altered before it can take rows. */
export class TableFault extends Error {
  override readonly name = 'TableFault'
  readonly code = TABLE_FAULT
}

const FRESH_MS = 1_000
/** Triggers change without a trace in MySQL's fingerprint. */
const DESCRIBE_AGAIN_MS = 5_000

/** Engines of MySQL's kin that keep rows and have transactions; in lower case. TiDB, Vitess and Galera report InnoDB. */
const ENGINES = ['innodb', 'rocksdb', 'tokudb', 'ndbcluster']

export class TableGuard {
  readonly #queries: TableQueries
  #known: { fingerprint: string; table: Table; at: number } | undefined
  /** When the last check began that found the table fit. */
  #fitAt = Number.NEGATIVE_INFINITY

  constructor(queries: TableQueries) {
    this.#queries = queries
  }

  /** Before an insert. Throws TableFault, or the database's error. */
  async assertFitLately(): Promise<void> {
    if (performance.now() - this.#fitAt > FRESH_MS) await this.assertFit()
  }

  /** Now. Resolves with a table that is the same object as long as nothing is known to have changed. Throws as above. */
  async assertFit(): Promise<Table> {
    const began = performance.now()
    const table = await this.#look(began)
    const problem = problemOf(table)
    if (problem !== undefined) {
      this.#fitAt = Number.NEGATIVE_INFINITY
      throw new TableFault(problem)
    }
    this.#fitAt = Math.max(this.#fitAt, began)
    return table
  }

  async #look(at: number): Promise<Table> {
    const fingerprint = await this.#queries.fingerprint()
    const known = this.#known
    const isSame = known?.fingerprint === fingerprint
    if (isSame && at - known.at < DESCRIBE_AGAIN_MS) return known.table
    const found = await this.#queries.describe(fingerprint)
    const table = isSame && found.hasTriggers === known.table.hasTriggers ? known.table : found
    this.#known = { fingerprint, table, at }
    return table
  }
}

/** What is wrong, what is expected and what to do; undefined for a table that is fit. */
function problemOf({ kind, engine, unique }: Table): string | undefined {
  if (kind !== 'table') {
    return `Content is a ${kind}; expected a table of its own that keeps rows. Rename what has its name now, and put the table back`
  }
  if (engine !== undefined && !ENGINES.includes(engine.toLowerCase())) {
    return `the table Content has the engine ${engine}; expected one with transactions that keeps rows. Run: ALTER TABLE Content ENGINE = InnoDB`
  }
  if (!unique.some(({ columns }) => columns.length === 1 && isId(columns[0]))) {
    return 'the table Content has no primary key on id alone, so that a retry would write a row twice; delete rows that are there twice and run: ALTER TABLE Content ADD PRIMARY KEY (id) (SQLite: make the table anew)'
  }
  const other = unique.find(({ columns }) => !columns.some(isId))
  if (other) {
    return `the table Content has the unique index ${other.name}; expected none but on id, since rows that were accepted must not exclude each other. Drop it, or make it an index that is not unique`
  }
  return undefined
}

const isId = (column: string | null | undefined) => column?.toLowerCase() === 'id'
