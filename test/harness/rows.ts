/** Rows behind Spillway's back, in whichever database: what a save of long ago left, which the queue has forgotten. */
import { DatabaseSync } from 'node:sqlite'
import { query } from './mariadb.ts'

const at = { mysql: '2025-01-01 00:00:00.000', sqlite: '2025-01-01T00:00:00.000+00:00' }

/** `content` must not need quoting. */
export async function putRows(databaseUrl: string, ids: readonly string[], content: string): Promise<void> {
  const time = databaseUrl.startsWith('mysql:') ? at.mysql : at.sqlite
  const values = ids.map((id) => `('${id}', '${content}', '${time}', '${time}')`)
  await statement(databaseUrl, `INSERT INTO Content (id, content, createdAt, savedAt) VALUES ${values}`)
}

export async function removeRow(databaseUrl: string, id: string): Promise<void> {
  await statement(databaseUrl, `DELETE FROM Content WHERE id = '${id}'`)
}

/** Any statement that both databases take. */
export async function statement(databaseUrl: string, sql: string): Promise<void> {
  if (databaseUrl.startsWith('mysql:')) {
    await query(databaseUrl, sql)
    return
  }
  const file = new DatabaseSync(databaseUrl.slice('file:'.length), { timeout: 10_000 })
  file.exec(sql)
  file.close()
}
