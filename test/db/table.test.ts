/**
 * FA18: the table is not the one that the migrations created. The store refuses it, says what to do, and goes on once it is fixed; it never
 * reports a row as written that the table lacks.
 */
import { uuidv7 } from 'uuidv7'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parseCreateTable } from '../../src/db/mysql-table.ts'
import { Content, type ContentRow } from '../harness/contents.ts'
import { engine } from '../harness/engine.ts'
import { holds } from '../harness/eventually.ts'
import { startMariadb } from '../harness/mariadb.ts'
import { quiet } from '../harness/quiet.ts'
import { contentStore, mariadbStore, sqliteStore, type TestStore } from '../harness/stores.ts'
import { faultOf } from '../suites/store.ts'

const row = (content = 'a row', id = uuidv7() as string): ContentRow => ({
  id,
  content,
  createdAt: new Date('2026-01-01T00:00:00.001Z'),
  savedAt: new Date('2026-01-01T00:00:00.002Z'),
})

let server: Awaited<ReturnType<typeof startMariadb>>
beforeAll(async () => {
  server = await startMariadb()
  await server.sql(engine.addBlackhole)
}, 60_000)
afterAll(() => server.cleanup())

async function mariadb(): Promise<TestStore> {
  const url = await server.createDatabase()
  return await mariadbStore({ url, sql: (statement) => server.sql(statement, new URL(url).pathname.slice(1)) })
}

interface Case {
  is: string
  change: string[]
  says: RegExp
  fix: string[]
}

const renamed = 'RENAME TABLE Content TO Elsewhere'
const back = ['DROP TABLE Content', 'RENAME TABLE Elsewhere TO Content']
const ofEngine = (name: string): Case => ({
  is: `a table with ENGINE=${name}`,
  change: [`ALTER TABLE Content ENGINE = ${name}`],
  says: new RegExp(`has the engine ${name}; expected one with transactions .*ALTER TABLE Content ENGINE = InnoDB`),
  fix: ['ALTER TABLE Content ENGINE = InnoDB'],
})
const unique = (columns: string): Case => ({
  is: `a table with a unique index on ${columns}`,
  change: [`CREATE UNIQUE INDEX theirs ON Content (${columns})`],
  says: /has the unique index theirs; expected none but on id.*Drop it/,
  fix: ['DROP INDEX theirs ON Content'],
})

const onMariadb: Case[] = [
  ...engine.withoutTransactions.map(ofEngine),
  unique('savedAt'),
  unique('createdAt, content(100)'),
  {
    is: 'another table under its name, with ENGINE=BLACKHOLE',
    change: [
      'CREATE TABLE Replaced LIKE Content',
      'ALTER TABLE Replaced ENGINE = BLACKHOLE',
      renamed,
      'RENAME TABLE Replaced TO Content',
    ],
    says: /has the engine BLACKHOLE/,
    fix: back,
  },
  {
    is: 'a table without a primary key',
    change: ['ALTER TABLE Content DROP PRIMARY KEY'],
    says: /has no primary key on id alone, .*ALTER TABLE Content ADD PRIMARY KEY \(id\)/,
    fix: ['ALTER TABLE Content ADD PRIMARY KEY (id)'],
  },
  {
    is: 'a table whose primary key has a second column',
    change: ['ALTER TABLE Content DROP PRIMARY KEY, ADD PRIMARY KEY (id, createdAt)'],
    says: /has no primary key on id alone/,
    fix: ['ALTER TABLE Content DROP PRIMARY KEY, ADD PRIMARY KEY (id)'],
  },
  {
    is: 'a view',
    change: [renamed, 'CREATE VIEW Content AS SELECT * FROM Elsewhere'],
    says: /Content is a view; expected a table/,
    fix: ['DROP VIEW Content', 'RENAME TABLE Elsewhere TO Content'],
  },
]

const remake = (definition: string) => [
  'ALTER TABLE Content RENAME TO Elsewhere',
  `CREATE TABLE Content (${definition})`,
  'INSERT INTO Content SELECT * FROM Elsewhere',
]
const sqliteBack = ['DROP TABLE Content', 'ALTER TABLE Elsewhere RENAME TO Content']
const onSqlite: Case[] = [
  { ...unique('savedAt'), fix: ['DROP INDEX theirs'] },
  { ...unique('lower(content)'), fix: ['DROP INDEX theirs'] },
  {
    is: 'a table without a primary key',
    change: remake('id TEXT NOT NULL, content TEXT NOT NULL, createdAt DATETIME NOT NULL, savedAt DATETIME NOT NULL'),
    says: /has no primary key on id alone/,
    fix: sqliteBack,
  },
  {
    is: 'a view with an INSTEAD OF trigger',
    change: [
      'ALTER TABLE Content RENAME TO Elsewhere',
      'CREATE VIEW Content AS SELECT * FROM Elsewhere',
      'CREATE TRIGGER instead INSTEAD OF INSERT ON Content BEGIN SELECT 1; END',
    ],
    says: /Content is a view; expected a table/,
    fix: ['DROP VIEW Content', 'ALTER TABLE Elsewhere RENAME TO Content'],
  },
]

describe.each([
  { database: engine.name, make: mariadb, cases: onMariadb },
  { database: 'SQLite', make: sqliteStore, cases: onSqlite },
])('A store on $database', ({ make, cases }) => {
  let made: TestStore
  beforeEach(async () => {
    made = await make()
  })
  afterEach(() => made.cleanup())

  const all = async (statements: readonly string[]) => {
    for (const statement of statements) await made.sql(statement)
  }

  for (const one of cases)
    test(`does not write to ${one.is}, says what is wrong, and writes again once it is fixed`, async () => {
      const { store } = made
      await store.insert(Content, [row('before')])
      await all(one.change)
      const batch = [row('while it was wrong'), { ...row('and another'), createdAt: new Date(), savedAt: new Date() }]
      const refused = { kind: 'unavailable', vendorCode: 'TABLE', message: expect.stringMatching(one.says) }
      expect(await faultOf(store.insert(Content, batch))).toMatchObject(refused)
      expect(await faultOf(store.insert(Content, batch))).toMatchObject(refused)
      expect(await faultOf(store.probe(Content))).toMatchObject(refused)

      await all(one.fix)
      await store.probe(Content)
      // A row that was written before the check is a duplicate, which the worker compares.
      const there = new Set(
        (
          await store.existing(
            Content,
            batch.map(({ id }) => id),
          )
        ).map(({ id }) => id),
      )
      await store.insert(
        Content,
        batch.filter(({ id }) => !there.has(id)),
      )
      const found = await store.existing(
        Content,
        batch.map(({ id }) => id),
      )
      expect(found.map(({ content }) => content).toSorted()).toEqual(['and another', 'while it was wrong'])
    })

  test('starts with a wrong table, and logs what to do', async () => {
    const [one] = cases
    await all(one!.change)
    const log = quiet()
    const store = await contentStore({ url: made.url, concurrency: 1, log })
    try {
      await store.prepare(AbortSignal.timeout(20_000))
      expect(log.said.join('\n')).toMatch(one!.says)
      expect(await faultOf(store.insert(Content, [row()]))).toMatchObject({ kind: 'unavailable', vendorCode: 'TABLE' })
    } finally {
      await store.close()
    }
  })
})

test('A store on SQLite reports a row that a trigger deletes or changes after the insert', async () => {
  const made = await sqliteStore()
  try {
    await made.sql(
      "CREATE TRIGGER t AFTER INSERT ON Content WHEN NEW.content = 'gone' BEGIN DELETE FROM Content WHERE id = NEW.id; END",
    )
    await made.store.insert(Content, [row('kept')])
    expect(await faultOf(made.store.insert(Content, [row('gone')]))).toMatchObject({ vendorCode: 'ROW_COUNT' })
    await made.sql('DROP TRIGGER t')
    await made.sql("CREATE TRIGGER t AFTER INSERT ON Content BEGIN UPDATE Content SET content = 'x'; END")
    expect(await faultOf(made.store.insert(Content, [row('altered')]))).toMatchObject({ vendorCode: 'ROW_COUNT' })
  } finally {
    await made.cleanup()
  }
})

test(`A store on ${engine.name} reports a row that a trigger changes before the insert`, async () => {
  const made = await mariadb()
  try {
    await made.sql('CREATE TRIGGER t BEFORE INSERT ON Content FOR EACH ROW SET NEW.content = UPPER(NEW.content)')
    expect(await faultOf(made.store.insert(Content, [row('altered')]))).toMatchObject({ vendorCode: 'ROW_COUNT' })
    await made.store.insert(Content, [row('KEPT')])
  } finally {
    await made.cleanup()
  }
})

test(`A store on ${engine.name} refuses sessions in which init_connect makes a temporary table of the same name`, async () => {
  const made = await mariadb()
  await server.sql("CREATE USER IF NOT EXISTS app@'%'")
  await server.sql("GRANT ALL ON *.* TO app@'%'")
  await server.sql(`REVOKE ${engine.administration} ON *.* FROM app@'%'`)
  const url = new URL(made.url)
  url.username = 'app'
  const name = url.pathname.slice(1)
  await made.sql('CREATE TABLE Template LIKE Content')
  await server.sql(`SET GLOBAL init_connect = 'CREATE TEMPORARY TABLE ${name}.Content LIKE ${name}.Template'`)
  const store = await contentStore({ url: url.href, concurrency: 1, log: quiet() })
  try {
    await expect(store.prepare(AbortSignal.timeout(20_000))).rejects.toThrow(
      /a temporary table named Content hides the table in every new session; remove its CREATE from init_connect/,
    )
    expect(await faultOf(store.insert(Content, [row()]))).toMatchObject({ kind: 'unavailable', vendorCode: 'SESSION' })
    await server.sql("SET GLOBAL init_connect = ''")
    // Sessions from before the fix may still be in the pool.
    await holds(() => store.prepare(AbortSignal.timeout(20_000)))
    await holds(() => store.insert(Content, [row('kept')]))
    expect(await made.sql('SELECT content FROM Content')).toEqual([{ content: 'kept' }])
  } finally {
    await server.sql("SET GLOBAL init_connect = ''")
    await store.close()
    await made.cleanup()
  }
})

test('parseCreateTable reads what MySQL, MariaDB and TiDB show', () => {
  const columns = "  `id` char(36) NOT NULL,\n  `content` mediumtext NOT NULL COMMENT 'UNIQUE KEY `a` (`id`)',\n"
  const tidb = `CREATE TABLE \`Content\` (\n${columns}  PRIMARY KEY (\`id\`) /*T![clustered_index] NONCLUSTERED */,\n  UNIQUE KEY \`u\` (\`a\`,\`id\` DESC)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`
  expect(parseCreateTable(tidb)).toEqual({
    kind: 'table',
    engine: 'InnoDB',
    unique: [
      { name: 'PRIMARY', columns: ['id'] },
      { name: 'u', columns: ['a', 'id'] },
    ],
  })
  const mysql = `CREATE TABLE \`Content\` (\n${columns}  UNIQUE KEY \`f\` ((lower(\`id\`))) COMMENT '(x)',\n  UNIQUE KEY \`p\` (\`id\`(10)) USING BTREE,\n  UNIQUE KEY \`q\` (\`id\`) /*!80000 INVISIBLE */\n) ENGINE=NDBCLUSTER`
  expect(parseCreateTable(mysql)).toEqual({
    kind: 'table',
    engine: 'NDBCLUSTER',
    unique: [
      { name: 'f', columns: [null] },
      { name: 'p', columns: [null] },
      { name: 'q', columns: ['id'] },
    ],
  })
  expect(parseCreateTable('CREATE ALGORITHM=UNDEFINED VIEW `Content` AS select 1').kind).toBe('view')
  expect(parseCreateTable('CREATE TEMPORARY TABLE `Content` (\n) ENGINE=InnoDB').kind).toBe('temporary table')
})
