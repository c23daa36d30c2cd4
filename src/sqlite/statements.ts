/** Prepares the statements of a .sql file, each headed by `-- name: its name`. */
import { readFileSync } from 'node:fs'
import type { DatabaseSync, StatementSync } from 'node:sqlite'

/** A statement by its name; a name that the file does not have is a defect, and thrown. */
export type Statements = (name: string) => StatementSync

export function prepareAll(db: DatabaseSync, file: URL): Statements {
  const statements = new Map<string, StatementSync>()
  const [, ...parts] = readFileSync(file, 'utf8').split(/^-- name: /m)
  for (const part of parts) {
    const end = part.indexOf('\n')
    statements.set(part.slice(0, end).trim(), db.prepare(part.slice(end)))
  }
  return (name) => {
    const statement = statements.get(name)
    if (!statement) throw new Error(`${file.pathname} has no statement named "${name}"`)
    return statement
  }
}
