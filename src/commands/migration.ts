/**
 * `npm run migration -- NAME`: writes a migration for both databases, from the difference between the schema and the migrations. Not by
 * Prisma's engine: it is downloaded, its tables have other collations, and its columns for Decimal and Json lose digits on SQLite. Each
 * folder of a migration has, beside the SQL, the definitions of the tables that it changed (tables.json).
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Kind, TablesSql } from '../../prisma/generator/definitions.ts'
import { generate, problemsOf } from '../../prisma/generator/generate.ts'
import { project } from '../../prisma/generator/project.ts'
import { BY_HAND } from '../db/migrate.ts'
import { type ByHand, type Difference, differenceOf } from './migration-sql.ts'

const kinds = ['mysql', 'sqlite'] as const
const titles = { mysql: 'MySQL', sqlite: 'SQLite' }
const folderOf = (kind: Kind) => new URL(`prisma/${kind}/migrations/`, project)

async function main(args: readonly string[]): Promise<number> {
  const [name = ''] = args
  if (args.length !== 1 || !/^[a-z0-9_]{1,100}$/.test(name)) {
    console.error(
      'A migration needs a name of 1 to 100 characters a-z, 0-9 and _, such as: npm run migration -- add_comment',
    )
    return 1
  }
  try {
    await generate()
  } catch (error) {
    console.error(problemsOf(error))
    return 1
  }
  const wanted = JSON.parse(read(new URL('prisma/mysql/generated/definitions.json', project)))
  const differences = kinds.map((kind) => ({ kind, difference: differenceOf(known(kind), wanted[kind], kind) }))
  if (differences.every(({ difference }) => Object.keys(difference.tables).length === 0)) {
    console.log('prisma/schema.prisma has nothing that the migrations lack: no migration was written.')
    return 0
  }
  const folder = `${timestamp()}_${name}`
  for (const { kind, difference } of differences) write(new URL(`${folder}/`, folderOf(kind)), kind, difference)
  return report(folder, differences)
}

/** The tables as the migrations left them. */
function known(kind: Kind): TablesSql {
  const tables: Record<string, TablesSql[string] | null> = {}
  for (const name of migrations(kind)) {
    const file = new URL(`${name}/tables.json`, folderOf(kind))
    if (existsSync(file)) Object.assign(tables, JSON.parse(read(file)))
  }
  return Object.fromEntries(Object.entries(tables).filter((entry): entry is [string, TablesSql[string]] => !!entry[1]))
}

function migrations(kind: Kind): string[] {
  if (!existsSync(folderOf(kind))) return []
  const entries = readdirSync(folderOf(kind), { withFileTypes: true })
  return entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : [])).sort()
}

/** UTC, and after the last migration's, since their names are their order. */
function timestamp(): string {
  const now = new Date().toISOString().replace(/\D/g, '').slice(0, 14)
  const last = Math.max(...kinds.flatMap(migrations).map((name) => Number(/^\d{14}/.exec(name) ?? 0)))
  return String(Math.max(Number(now), last + 1))
}

function write(folder: URL, kind: Kind, { statements, byHand, tables }: Difference): void {
  const lines = [
    '-- From prisma/schema.prisma by `npm run migration`. You may edit this file until it has been applied anywhere.',
  ]
  if (isIncomplete(byHand)) {
    lines.push(
      `${BY_HAND} The start is refused while this line is here. Write the statements for what follows, and delete this line.`,
    )
  }
  lines.push(...byHand.flatMap(({ what, suggestions }) => [`-- ${what}`, ...suggestions.map(asComment)]))
  if (statements.length + byHand.length === 0) lines.push(`-- Nothing changes on ${titles[kind]}.`)
  for (const statement of statements)
    lines.push(...(statement.startsWith('CREATE TABLE') ? ['', statement] : [statement]))
  // MySQL refuses a file without a statement.
  if (statements.length === 0 && kind === 'mysql') lines.push('DO 0;')
  mkdirSync(folder, { recursive: true })
  writeFileSync(new URL('migration.sql', folder), `${lines.join('\n')}\n`)
  writeFileSync(new URL('tables.json', folder), `${JSON.stringify(tables, null, 2)}\n`)
}

const asComment = (statement: string) =>
  statement.startsWith('--') ? statement : `-- ${statement.replaceAll('\n', '\n-- ')}`

function report(folder: string, differences: readonly { kind: Kind; difference: Difference }[]): number {
  for (const { kind } of differences) console.log(`wrote ${shown(new URL(`${folder}/migration.sql`, folderOf(kind)))}`)
  for (const { kind, difference } of differences) {
    const { byHand } = difference
    if (byHand.length === 0) continue
    const file = shown(new URL(`${folder}/migration.sql`, folderOf(kind)))
    const title = `\n${isIncomplete(byHand) ? 'Write' : 'You may write'} by hand, for ${titles[kind]}, into ${file}:`
    console.error(
      [title, ...byHand.flatMap(({ what, suggestions }) => [what, ...suggestions.map((each) => `  ${each}`)])].join(
        '\n',
      ),
    )
  }
  if (differences.some(({ difference }) => isIncomplete(difference.byHand))) {
    console.error(`\nThe start is refused until the line "${BY_HAND} …" is deleted from each of these files.`)
    return 1
  }
  console.log('The next start, or npm run migrate, applies it.')
  return 0
}

const isIncomplete = (byHand: readonly ByHand[]) => byHand.some(({ optional }) => !optional)
const read = (file: URL) => readFileSync(file, 'utf8')
const shown = (file: URL) => relative(process.cwd(), fileURLToPath(file))

process.exitCode = await main(process.argv.slice(2))
