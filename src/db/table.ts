/**
 * Checks that the table keeps inserted rows. Invariant: an insert begins only if the table was found fit within the last FRESH_MS, and
 * counts only if the table is found fit after it. An operator may replace a table while Spillway runs, and some tables (ENGINE=BLACKHOLE,
 * a view with a trigger) accept rows and keep none.
 */

/** The table as the database describes it. */
export interface Table {
  /** `table`; or a kind that may not keep rows: a view, a temporary table, a virtual table. */
  kind: string
  /** If the database has several engines. */
  engine?: string | undefined
  /** Unique indexes over whole columns, the primary key among them. `columns` holds null for an expression. */
  unique: readonly { name: string; columns: readonly (string | null)[] }[]
  /** Triggers may delete or change rows within the insert. */
  hasTriggers: boolean
}

/** The queries, which each database implements. */
export interface TableQueries {
  /** A text that changes whenever the table is changed. Cheap. */
  fingerprint(): Promise<string>
  /** The table as of that fingerprint, or later. */
  describe(fingerprint: string): Promise<Table>
}

/** The code of a TableFault, in the place of a server's error number. */
export const TABLE_FAULT = 'TABLE'

/** The table must be altered before it can accept rows. */
export class TableFault extends Error {
  override readonly name = 'TableFault'
  readonly code = TABLE_FAULT
}

const FRESH_MS = 1_000
/** MySQL's fingerprint does not show a changed trigger. */
const DESCRIBE_AGAIN_MS = 5_000

/** Engines of MySQL and MariaDB that keep rows and have transactions, in lower case. TiDB, Vitess and Galera report InnoDB. */
const ENGINES = ['innodb', 'rocksdb', 'tokudb', 'ndbcluster']

export class TableGuard {
  readonly #name: string
  readonly #queries: TableQueries
  #known: { fingerprint: string; table: Table; at: number } | undefined
  /** The start of the last check that found the table fit. */
  #fitAt = Number.NEGATIVE_INFINITY

  constructor(name: string, queries: TableQueries) {
    this.#name = name
    this.#queries = queries
  }

  /** Checks the table unless it was found fit just now; before an insert. Throws TableFault, or the database's error. */
  async assertFitLately(): Promise<void> {
    if (performance.now() - this.#fitAt > FRESH_MS) await this.assertFit()
  }

  /** Checks the table. Resolves with the same object as long as no change was seen. Throws as above. */
  async assertFit(): Promise<Table> {
    const began = performance.now()
    const table = await this.#read(began)
    const problem = problemOf(this.#name, table)
    if (problem !== undefined) {
      this.#fitAt = Number.NEGATIVE_INFINITY
      throw new TableFault(problem)
    }
    this.#fitAt = Math.max(this.#fitAt, began)
    return table
  }

  async #read(at: number): Promise<Table> {
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
function problemOf(name: string, { kind, engine, unique }: Table): string | undefined {
  if (kind !== 'table') {
    return `${name} is a ${kind}; expected a table that keeps rows. Rename what has its name now, and restore the table`
  }
  if (engine !== undefined && !ENGINES.includes(engine.toLowerCase())) {
    return `the table ${name} has the engine ${engine}; expected one with transactions that keeps rows. Run: ALTER TABLE ${name} ENGINE = InnoDB`
  }
  if (!unique.some(({ columns }) => columns.length === 1 && isId(columns[0]))) {
    return `the table ${name} has no primary key on id alone, so that a retry would write a row twice; delete duplicate rows and run: ALTER TABLE ${name} ADD PRIMARY KEY (id) (SQLite: create the table again)`
  }
  const other = unique.find(({ columns }) => !columns.some(isId))
  if (other) {
    return `the table ${name} has the unique index ${other.name}; expected none but on id, since enqueued rows must not exclude each other. Drop it, or replace it by an index that is not unique`
  }
  return undefined
}

const isId = (column: string | null | undefined) => column?.toLowerCase() === 'id'
