/** The table as SHOW CREATE TABLE describes it: one cheap statement, for which any right on the table is enough. */
import type { Table, TableQueries } from './table.ts'

/** Runs a statement and resolves with its rows as arrays. */
type Ask = (sql: string) => Promise<unknown[][]>

export const showTable = (name: string) => `SHOW CREATE TABLE \`${name}\``

export function mysqlTable(name: string, ask: Ask): TableQueries {
  return {
    fingerprint: async () => String((await ask(showTable(name)))[0]?.[1]),
    async describe(fingerprint) {
      // Without the right TRIGGER the answer is empty.
      const triggers = await ask(`SHOW TRIGGERS WHERE \`Table\` = '${name}' AND \`Event\` = 'INSERT'`)
      return { ...parseCreateTable(fingerprint), hasTriggers: triggers.length > 0 }
    },
  }
}

/** `(`a`,`b`(10) DESC,(lower(`c`)))`, balanced. */
const parts = /\(((?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*)\)/.source
const uniqueIndex = new RegExp(`^\\s+(PRIMARY|UNIQUE) KEY (?:\`((?:[^\`]|\`\`)+)\` )?${parts}`, 'gm')

/** Reads kind, engine and unique indexes; the server writes the statement with names in backticks. */
export function parseCreateTable(sql: string): Omit<Table, 'hasTriggers'> {
  const [, kind = 'view'] = /^CREATE (?:OR REPLACE )?(TEMPORARY TABLE|TABLE|SEQUENCE)\b/i.exec(sql) ?? []
  const unique = [...sql.matchAll(uniqueIndex)].map(([, , name = 'PRIMARY', columns = '']) => ({
    name,
    columns: columns.split(',').map((part) => /^`([^`]+)`(?: (?:ASC|DESC))?$/i.exec(part.trim())?.[1] ?? null),
  }))
  return { kind: kind.toLowerCase(), engine: /^\) ENGINE=(\w+)/m.exec(sql)?.[1], unique }
}
