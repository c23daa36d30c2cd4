/** The statements that lead from one set of tables to another. What could lose rows, or needs a decision, is left to a person. */
import { type ColumnSql, type Kind, quoted, type TableSql, type TablesSql } from '../../prisma/generator/definitions.ts'

export interface Difference {
  /** In an order that can be run: tables, columns, indexes, foreign keys. */
  statements: string[]
  byHand: ByHand[]
  /** The definitions of the tables that differ; null for one that is no longer there. */
  tables: Record<string, TableSql | null>
}

/** A change that a person has to write. */
export interface ByHand {
  what: string
  /** What might be meant. */
  suggestions: string[]
  /** Whether all works without it, too. */
  optional?: true
}

export function differenceOf(known: TablesSql, wanted: TablesSql, kind: Kind): Difference {
  const all: Difference = { statements: [], byHand: [], tables: {} }
  const foreignKeys: string[] = []
  for (const [name, table] of Object.entries(wanted)) {
    const before = known[name]
    if (before && JSON.stringify(sorted(before)) === JSON.stringify(sorted(table))) continue
    all.tables[name] = table
    const part = before ? changed(name, before, table, kind) : created(name, table, kind)
    all.statements.push(...part.statements)
    all.byHand.push(...part.byHand)
    foreignKeys.push(...part.foreignKeys)
  }
  for (const name of Object.keys(known).filter((name) => !(name in wanted))) {
    all.tables[name] = null
    all.byHand.push(removedTable(name, known, wanted, kind))
  }
  // After all tables: they may refer to each other in a circle.
  all.statements.push(...foreignKeys)
  return all
}

function removedTable(name: string, known: TablesSql, wanted: TablesSql, kind: Kind): ByHand {
  const columns = (table: TableSql) => JSON.stringify(sorted(table.columns))
  const to = Object.keys(wanted).find((other) => !(other in known) && columns(wanted[other]!) === columns(known[name]!))
  const drop = `DROP TABLE ${quoted(name, kind)};`
  if (to === undefined) {
    const what = `The table ${name} is no longer in the schema. It stays, with its rows, unless you write:`
    return { what, suggestions: [drop], optional: true }
  }
  return {
    what: `The table ${name} was renamed to ${to} (then remove the statements that create ${to}), or was removed and ${to} is new.`,
    suggestions: [`ALTER TABLE ${quoted(name, kind)} RENAME TO ${quoted(to, kind)};`, drop],
  }
}

interface Part {
  statements: string[]
  foreignKeys: string[]
  byHand: ByHand[]
}

function created(name: string, table: TableSql, kind: Kind): Part {
  const lines = [
    ...Object.entries(table.columns).map(([column, sql]) => columnLine(column, sql, kind)),
    table.primaryKey,
    // SQLite cannot add a foreign key later, and lets one refer to a table that is made later.
    ...(kind === 'sqlite' ? Object.entries(table.foreignKeys).map((key) => constraint(key, kind)) : []),
  ]
  const end = kind === 'mysql' ? ' ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;' : ';'
  return {
    statements: [
      `CREATE TABLE ${quoted(name, kind)} (\n${lines.map((line) => `  ${line}`).join(',\n')}\n)${end}`,
      ...Object.values(table.indexes).map((index) => `CREATE ${index};`),
    ],
    foreignKeys: kind === 'mysql' ? Object.entries(table.foreignKeys).map((key) => addConstraint(name, key, kind)) : [],
    byHand: [],
  }
}

function changed(name: string, before: TableSql, table: TableSql, kind: Kind): Part {
  const part: Part = { statements: [], foreignKeys: [], byHand: [] }
  const alter = `ALTER TABLE ${quoted(name, kind)}`
  const renamed = renamedColumns(before, table)
  const added = Object.entries(table.columns).filter(
    ([column]) => !(column in before.columns) && !Object.values(renamed).includes(column),
  )
  const inline = new Set<string>()
  for (const [column, sql] of added) {
    const add = `${alter} ADD COLUMN ${columnLine(column, sql, kind)}`
    const reference = kind === 'sqlite' ? inlineReference(column, before, table) : undefined
    if (reference) inline.add(reference.key)
    const problem = additionProblem(sql, kind, reference !== undefined)
    if (!problem) part.statements.push(`${add}${reference ? ` ${reference.sql}` : ''};`)
    else part.byHand.push({ what: `The column ${name}.${column} is new: ${problem}`, suggestions: [`${add};`] })
  }
  part.byHand.push(...removedColumns(name, before, table, renamed, kind), ...alteredColumns(name, before, table, kind))
  if (before.primaryKey !== table.primaryKey)
    part.byHand.push({ what: `The primary key of ${name} is another one.`, suggestions: [] })
  indexes(name, before, table, kind, part)
  foreignKeys(name, before, table, kind, part, inline)
  return part
}

/** Why the column cannot be added to a table that may have rows. */
function additionProblem([, nullness, value]: ColumnSql, kind: Kind, isReference: boolean): string | undefined {
  if (nullness === 'NOT NULL' && !value)
    return 'rows that are there already need a value. Make it optional, or give it a @default.'
  if (kind === 'sqlite' && value?.startsWith('DEFAULT ('))
    return 'SQLite adds no column whose default is an expression.'
  if (isReference && value) return 'SQLite adds no column with a foreign key and a default.'
  return undefined
}

/** New names by old ones: a new column that is defined as one that is gone may be the same one. */
function renamedColumns(before: TableSql, table: TableSql): Record<string, string> {
  const renamed: Record<string, string> = {}
  for (const [column, sql] of Object.entries(before.columns)) {
    if (column in table.columns) continue
    const to = Object.entries(table.columns).find(
      ([other, of]) =>
        !(other in before.columns) &&
        !Object.values(renamed).includes(other) &&
        JSON.stringify(of) === JSON.stringify(sql),
    )
    if (to) renamed[column] = to[0]
  }
  return renamed
}

function removedColumns(
  name: string,
  before: TableSql,
  table: TableSql,
  renamed: Record<string, string>,
  kind: Kind,
): ByHand[] {
  const alter = `ALTER TABLE ${quoted(name, kind)}`
  return Object.keys(before.columns).flatMap((column) => {
    if (column in table.columns) return []
    const drop = `${alter} DROP COLUMN ${quoted(column, kind)};`
    const to = renamed[column]
    if (to === undefined)
      return [{ what: `The column ${name}.${column} is no longer in the schema.`, suggestions: [drop] }]
    return [
      {
        what: `The column ${name}.${column} was renamed to ${to}, or was removed and ${to} is new.`,
        suggestions: [
          `${alter} RENAME COLUMN ${quoted(column, kind)} TO ${quoted(to, kind)};`,
          drop,
          `${alter} ADD COLUMN ${columnLine(to, table.columns[to]!, kind)};`,
        ],
      },
    ]
  })
}

function alteredColumns(name: string, before: TableSql, table: TableSql, kind: Kind): ByHand[] {
  return Object.entries(table.columns).flatMap(([column, sql]) => {
    const old = before.columns[column]
    if (!old || JSON.stringify(old) === JSON.stringify(sql)) return []
    const modify = `ALTER TABLE ${quoted(name, kind)} MODIFY COLUMN ${columnLine(column, sql, kind)};`
    const what = `The column ${name}.${column} was ${old.join(' ')}, and is ${sql.join(' ')}.`
    return [{ what, suggestions: kind === 'mysql' ? [modify] : [REBUILD] }]
  })
}

const REBUILD =
  '-- SQLite changes no column: make a table with the new definition, copy the rows, drop the old table, rename the new one.'

function indexes(name: string, before: TableSql, table: TableSql, kind: Kind, part: Part): void {
  for (const [index, sql] of Object.entries(table.indexes)) {
    if (!(index in before.indexes)) part.statements.push(`CREATE ${sql};`)
  }
  for (const [index, sql] of Object.entries(before.indexes)) {
    const now = table.indexes[index]
    if (now === sql) continue
    const drop = `DROP INDEX ${quoted(index, kind)}${kind === 'mysql' ? ` ON ${quoted(name, kind)}` : ''};`
    const what = now
      ? `The index ${index} of ${name} is another one.`
      : `The index ${index} of ${name} is no longer in the schema.`
    part.byHand.push({ what, suggestions: now ? [drop, `CREATE ${now};`] : [drop] })
  }
}

function foreignKeys(
  name: string,
  before: TableSql,
  table: TableSql,
  kind: Kind,
  part: Part,
  inline: ReadonlySet<string>,
): void {
  for (const key of Object.keys({ ...before.foreignKeys, ...table.foreignKeys })) {
    const [old, sql] = [before.foreignKeys[key], table.foreignKeys[key]]
    if (old === sql || inline.has(key)) continue
    const drop = old === undefined ? [] : [`ALTER TABLE ${quoted(name, kind)} DROP FOREIGN KEY ${quoted(key, kind)};`]
    const add = sql === undefined ? [] : [addConstraint(name, [key, sql], kind)]
    if (kind === 'mysql' && drop.length === 0) part.foreignKeys.push(...add)
    else {
      const what = sql === undefined ? 'is no longer in the schema' : 'is new or another one'
      const suggestions = kind === 'mysql' ? [...drop, ...add] : [REBUILD]
      part.byHand.push({ what: `The foreign key ${key} of ${name} ${what}.`, suggestions })
    }
  }
}

/** SQLite adds a nullable column together with its foreign key. */
function inlineReference(column: string, before: TableSql, table: TableSql): { key: string; sql: string } | undefined {
  const start = `FOREIGN KEY (${quoted(column, 'sqlite')}) `
  const found = Object.entries(table.foreignKeys).find(
    ([key, sql]) => !(key in before.foreignKeys) && sql.startsWith(start),
  )
  return found && { key: found[0], sql: found[1].slice(start.length) }
}

const columnLine = (column: string, sql: ColumnSql, kind: Kind) => `${quoted(column, kind)} ${sql.join(' ')}`
const constraint = ([key, sql]: [string, string], kind: Kind) => `CONSTRAINT ${quoted(key, kind)} ${sql}`
const addConstraint = (name: string, key: [string, string], kind: Kind) =>
  `ALTER TABLE ${quoted(name, kind)} ADD ${constraint(key, kind)};`

/** The order of columns and keys is no difference. */
function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, member]) => [key, sorted(member)]),
  )
}
