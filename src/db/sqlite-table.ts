/** The table as SQLite's schema describes it. */
import type { Client } from './dialect.ts'
import type { NodeSqlite } from './node-sqlite.ts'
import type { Table, TableQueries } from './table.ts'

const schemaOf = (name: string) => `
  SELECT s.type, s.sql, i.name AS "index", i.partial, c.name AS "column",
    EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = '${name}' COLLATE NOCASE) AS triggers
  FROM sqlite_schema s
  LEFT JOIN pragma_index_list(s.name) i ON i."unique" = 1
  LEFT JOIN pragma_index_info(i.name) c
  WHERE s.name = '${name}' COLLATE NOCASE AND s.type IN ('table', 'view')
  ORDER BY i.seq, c.seqno`

interface SchemaRow {
  type: string
  sql: string
  index: string | null
  partial: bigint | number | null
  column: string | null
  triggers: bigint | number
}

export function sqliteTable(name: string, client: Client, adapter: NodeSqlite): TableQueries {
  return {
    async fingerprint() {
      // Prisma opens the connection at its first query.
      await client.$connect()
      return String(await adapter.schemaVersion())
    },
    async describe() {
      const rows = await client.$queryRawUnsafe<SchemaRow[]>(schemaOf(name))
      // Without a table, this throws SQLite's own error.
      if (rows.length === 0) await client.$queryRawUnsafe(`SELECT 1 FROM \`${name}\` LIMIT 1`)
      return tableOf(name, rows)
    },
  }
}

function tableOf(name: string, rows: readonly SchemaRow[]): Table {
  const [first] = rows
  if (!first) throw new Error(`the table ${name} was created while it was read; try again`)
  const unique = new Map<string, (string | null)[]>()
  for (const { index, partial, column } of rows) {
    if (index === null) continue
    // A partial index does not cover all rows: its condition counts as an expression.
    const before = unique.get(index) ?? (Number(partial) === 1 ? [null] : [])
    unique.set(index, [...before, column])
  }
  const isVirtual = /^\s*CREATE\s+VIRTUAL\b/i.test(first.sql)
  return {
    kind: isVirtual ? 'virtual table' : first.type,
    unique: [...unique].map(([name, columns]) => ({ name, columns })),
    hasTriggers: Number(first.triggers) === 1,
  }
}
