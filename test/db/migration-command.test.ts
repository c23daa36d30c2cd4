/** `npm run migration`: from the schema to SQL for both databases, applied to real ones, and what it leaves to a person. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Migratable, migrate } from '../../src/db/migrate.ts'
import { mysqlDialect } from '../../src/db/mysql.ts'
import { sqliteDialect } from '../../src/db/sqlite.ts'
import { given } from '../harness/contents.ts'
import { startMariadb } from '../harness/mariadb.ts'
import { copyPrisma, type PrismaCopy } from '../harness/prisma-copy.ts'
import { quiet } from '../harness/quiet.ts'

let server: Awaited<ReturnType<typeof startMariadb>>
beforeAll(async () => {
  server = await startMariadb()
}, 90_000)
afterAll(() => server.cleanup())

const note = `
model Note {
  id        String   @id @db.Char(36)
  title     String   @db.VarChar(20)
  kind      Kind     @default(PLAIN)
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)
  lines     Line[]
}

enum Kind {
  PLAIN
  FANCY
}

model Line {
  id        String   @id @db.Char(36)
  noteId    String   @db.Char(36)
  note      Note     @relation(fields: [noteId], references: [id])
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)

  @@index([noteId, createdAt, id])
}
`

/** The command's output, and its exit code. */
async function migration(copy: PrismaCopy, ...args: string[]) {
  const done = copy.node(['src/commands/migration.ts', ...args])
  return done.then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  )
}

const kinds = ['mysql', 'sqlite'] as const
type Kind = (typeof kinds)[number]

async function sqlOf(copy: PrismaCopy, kind: Kind, name: string): Promise<string> {
  const folder = join(copy.path, `prisma/${kind}/migrations`)
  const found = (await readdir(folder)).find((each) => each.endsWith(`_${name}`))
  return readFile(join(folder, found!, 'migration.sql'), 'utf8')
}

const statements = (sql: string) => sql.split('\n').filter((line) => line && !line.startsWith('--'))

async function editSchema(copy: PrismaCopy, edit: (text: string) => string): Promise<void> {
  const path = join(copy.path, 'prisma/schema.prisma')
  await writeFile(path, edit(await readFile(path, 'utf8')))
}

/** A new database with the migrations that the copy has now. */
async function open(copy: PrismaCopy, kind: Kind): Promise<{ database: Migratable } & AsyncDisposable> {
  const folder = pathToFileURL(join(copy.path, `prisma/${kind}/migrations/`))
  const log = quiet()
  const dialect =
    kind === 'mysql'
      ? mysqlDialect({
          url: await server.createDatabase(),
          concurrency: 1,
          client: given.prisma.mysql,
          folder: given.prisma.folder,
          tables: [],
          log,
        })
      : sqliteDialect(`file:${join(copy.path, `${Math.random()}.db`)}`, {
          client: given.prisma.sqlite,
          folder: given.prisma.folder,
          log,
        })
  await using stack = new AsyncDisposableStack()
  stack.defer(() => dialect.close())
  const database = { ...(await dialect.migratable(AbortSignal.timeout(20_000))), folder }
  stack.defer(() => database.close())
  await migrate(database, log)
  const all = stack.move()
  return { database, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

const now = "'2026-01-01 00:00:00.000'"
const insertNote = (database: Migratable, id: string) =>
  database.query(`INSERT INTO Note (id, title, createdAt, savedAt) VALUES ('${id}', 'a', ${now}, ${now})`)
const insertLine = (database: Migratable, id: string, noteId: string) =>
  database.query(`INSERT INTO Line (id, noteId, createdAt, savedAt) VALUES ('${id}', '${noteId}', ${now}, ${now})`)

describe('npm run migration', () => {
  let copy: PrismaCopy
  beforeEach(async () => {
    copy = await copyPrisma(note)
    return () => copy[Symbol.asyncDispose]()
  })

  test.each([[[]], [['Add note']], [['../x']], [['a', 'b']], [['x'.repeat(101)]]])(
    'refuses the name %j, says what a name is, and writes nothing',
    async (args) => {
      const { code, stderr } = await migration(copy, ...args)
      expect([code, stderr]).toEqual([1, expect.stringContaining('1 to 100 characters a-z, 0-9 and _')])
      for (const kind of kinds) expect(await readdir(join(copy.path, `prisma/${kind}/migrations`))).toEqual([])
    },
  )

  test('writes new models for both databases, and a second run finds nothing to write', async () => {
    const first = await migration(copy, 'add_note')
    expect(first).toMatchObject({ code: 0, stderr: '' })
    expect(first.stdout).toMatch(/wrote prisma\/mysql\/migrations\/\d{14}_add_note\/migration.sql/)
    expect(first.stdout).toMatch(/wrote prisma\/sqlite\/migrations\/\d{14}_add_note\/migration.sql/)
    for (const kind of kinds) {
      await using opened = await open(copy, kind)
      const { database } = opened
      await insertNote(database, 'n')
      await insertLine(database, 'l', 'n')
      await expect(insertLine(database, 'm', 'none')).rejects.toThrow(/foreign key/i)
      expect((await database.query('SELECT kind FROM Note')).map((row) => row.kind)).toEqual(['PLAIN'])
    }
    expect(await sqlOf(copy, 'mysql', 'add_note')).toContain('`noteId` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin')
    const second = await migration(copy, 'again')
    expect(second).toMatchObject({ code: 0, stdout: expect.stringContaining('no migration was written') })
    for (const kind of kinds) expect(await readdir(join(copy.path, `prisma/${kind}/migrations`))).toHaveLength(1)
  })

  test('writes new columns, indexes and a foreign key of tables with rows', async () => {
    await migration(copy, 'add_note')
    await using stack = new AsyncDisposableStack()
    const databases = await Promise.all(kinds.map(async (kind) => stack.use(await open(copy, kind)).database))
    for (const database of databases) await insertNote(database, 'n')
    await editSchema(copy, (text) =>
      text
        .replace(
          '  lines     Line[]',
          `  lines     Line[]
  colour    String   @default("it's \\\\ red") @db.VarChar(20)
  rating    Decimal? @db.Decimal(5, 2)
  parentId  String?  @db.Char(36)
  parent    Note?    @relation("notes", fields: [parentId], references: [id])
  notes     Note[]   @relation("notes")

  @@unique([title, colour])`,
        )
        .replace('  @@index([noteId', '  @@index([createdAt(sort: Desc), id])\n  @@index([noteId'),
    )
    expect(await migration(copy, 'more')).toMatchObject({ code: 0, stderr: '' })
    expect(statements(await sqlOf(copy, 'mysql', 'more'))).toEqual([
      "ALTER TABLE `Note` ADD COLUMN `colour` VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT 'it''s \\\\ red';",
      'ALTER TABLE `Note` ADD COLUMN `rating` DECIMAL(5,2) NULL;',
      'ALTER TABLE `Note` ADD COLUMN `parentId` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL;',
      'CREATE UNIQUE INDEX `Note_title_colour_key` ON `Note` (`title`, `colour`);',
      'CREATE INDEX `Line_createdAt_id_idx` ON `Line` (`createdAt` DESC, `id`);',
      'ALTER TABLE `Note` ADD CONSTRAINT `Note_parentId_fkey` FOREIGN KEY (`parentId`) REFERENCES `Note` (`id`) ON DELETE SET NULL ON UPDATE CASCADE;',
    ])
    for (const database of databases) {
      expect(await migrate(database, quiet())).toEqual([expect.stringMatching(/_more$/)])
      expect((await database.query('SELECT colour, rating, parentId FROM Note')).map((row) => ({ ...row }))).toEqual([
        { colour: "it's \\ red", rating: null, parentId: null },
      ])
      await expect(database.query("UPDATE Note SET parentId = 'none'")).rejects.toThrow(/foreign key/i)
      await expect(insertNote(database, 'm')).rejects.toThrow(/unique|duplicate/i)
    }
    expect(await migration(copy, 'again')).toMatchObject({
      stdout: expect.stringContaining('no migration was written'),
    })
  })

  test('leaves removed, renamed and changed columns to a person, and the start is refused until they are written', async () => {
    await migration(copy, 'add_note')
    await editSchema(copy, (text) =>
      text
        .replace('title     String   @db.VarChar(20)', 'heading   String   @db.VarChar(20)')
        .replace('  FANCY\n', '  FANCY\n  GRAND\n')
        .replace(
          '  createdAt DateTime @db.DateTime(3)\n  savedAt   DateTime @db.DateTime(3)\n  lines',
          '  must Int\n  may Int?\n$&',
        )
        .replace(/ {2}@@index\(\[noteId.*\n/, ''),
    )
    const { code, stderr } = await migration(copy, 'change')
    expect(code).toBe(1)
    const mysql = await sqlOf(copy, 'mysql', 'change')
    for (const text of [stderr, mysql]) {
      expect(text).toContain('The column Note.title was renamed to heading, or was removed and heading is new.')
      expect(text).toContain('ALTER TABLE `Note` RENAME COLUMN `title` TO `heading`;')
      expect(text).toContain('The column Note.must is new: rows that are there already need a value.')
      expect(text).toContain("ALTER TABLE `Note` MODIFY COLUMN `kind` ENUM('PLAIN', 'FANCY', 'GRAND')")
      expect(text).toContain('The index Line_noteId_createdAt_id_idx of Line is no longer in the schema.')
    }
    expect(stderr).toMatch(/Write by hand, for MySQL, into prisma\/mysql\/migrations\/\d{14}_change\/migration.sql/)
    expect(stderr).toMatch(/Write by hand, for SQLite, into prisma\/sqlite\/migrations\/\d{14}_change\/migration.sql/)
    expect(statements(mysql)).toEqual(['ALTER TABLE `Note` ADD COLUMN `may` INT NULL;'])
    // An enum is text in SQLite: nothing changes there.
    expect(await sqlOf(copy, 'sqlite', 'change')).not.toContain('kind')
    for (const kind of kinds) {
      await expect(open(copy, kind)).rejects.toThrow(
        /_change is not complete: write the statements .* and delete the line/,
      )
      // As a person completes it: the first suggestion of each, without the marker.
      const folder = join(copy.path, `prisma/${kind}/migrations`)
      const file = join(folder, (await readdir(folder)).find((each) => each.endsWith('_change'))!, 'migration.sql')
      const text = await readFile(file, 'utf8')
      await writeFile(
        file,
        text
          .replace(/^-- WRITE BY HAND.*\n/m, '')
          .replace(/^-- (ALTER TABLE .* RENAME COLUMN|ALTER TABLE .* MODIFY COLUMN)/gm, '$1')
          .replace(/^-- (ALTER TABLE .* ADD COLUMN .must. \w+ NOT NULL);/m, '$1 DEFAULT 0;'),
      )
      await using opened = await open(copy, kind)
      await opened.database.query(
        `INSERT INTO Note (id, heading, kind, must, createdAt, savedAt) VALUES ('n', 'a', 'GRAND', 1, ${now}, ${now})`,
      )
    }
  })

  test('writes both files when only one database changes, and leaves a removed table where it is', async () => {
    await migration(copy, 'add_note')
    await editSchema(copy, (text) => text.replace('@db.VarChar(20)', '@db.VarChar(40)'))
    expect(await migration(copy, 'longer')).toMatchObject({ code: 1 })
    expect(statements(await sqlOf(copy, 'sqlite', 'longer'))).toEqual([])
    expect(await sqlOf(copy, 'sqlite', 'longer')).toContain('-- Nothing changes on SQLite.')
    await (await open(copy, 'sqlite'))[Symbol.asyncDispose]()
    await editSchema(copy, (text) => text.replaceAll('Line', 'Other').replace('  noteId ', '  more Int\n  noteId '))
    const { code, stderr } = await migration(copy, 'other')
    expect([code, stderr]).toEqual([0, expect.stringContaining('DROP TABLE `Line`;')])
    for (const kind of kinds) {
      const text = await sqlOf(copy, kind, 'other')
      expect(text).toContain(
        '-- The table Line is no longer in the schema. It stays, with its rows, unless you write:\n-- DROP TABLE',
      )
      expect(statements(text)[0]).toMatch(/^CREATE TABLE .Other. \($/)
    }
  })

  test('asks whether a table that is gone was renamed to a new one with the same columns', async () => {
    await migration(copy, 'add_note')
    await editSchema(copy, (text) => text.replaceAll('Line', 'Other'))
    const { code, stderr } = await migration(copy, 'other')
    expect([code, stderr]).toEqual([1, expect.stringContaining('ALTER TABLE `Line` RENAME TO `Other`;')])
    for (const kind of kinds) await expect(open(copy, kind)).rejects.toThrow(/_other is not complete/)
  })

  test('prints what Prisma says about a schema that is wrong, and writes nothing', async () => {
    await editSchema(copy, (text) => text.replace('title     String', 'title     Strin'))
    const { code, stderr } = await migration(copy, 'wrong')
    expect([code, stderr]).toEqual([1, expect.stringContaining('Strin')])
    expect(await readdir(join(copy.path, 'prisma/mysql/migrations'))).toEqual([])
  })
})

test('a model and a migration of a user break no test of the migrations', async () => {
  await using copy = await copyPrisma(note.replaceAll('Note', 'UserNote').replaceAll('Line', 'UserLine'), {
    beside: true,
  })
  expect(await migration(copy, 'user_note')).toMatchObject({ code: 0 })
  const vitest = 'node_modules/vitest/vitest.mjs'
  const { stdout } = await copy.node([vitest, 'run', '--no-color', 'test/db/migrations.test.ts'])
  expect(stdout).toMatch(/Test Files +1 passed/)
}, 120_000)
