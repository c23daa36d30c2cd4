/** The generator of prisma/schema.prisma: tables for defineModel and the schema of SQLite, for a model with every type of column. */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Table } from '../../src/model/table.ts'
import { copyPrisma, type PrismaCopy } from '../harness/prisma-copy.ts'

let copy: PrismaCopy
let tables: Record<string, Table>
beforeAll(async () => {
  copy = await copyPrisma(await readFile(new URL('./every-type.prisma', import.meta.url), 'utf8'))
  await copy.generate()
  tables = (await import(pathToFileURL(join(copy.path, 'prisma/mysql/generated/tables.ts')).href)).tables
}, 120_000)
afterAll(() => copy[Symbol.asyncDispose]())

const column = (name: string) => tables.Every!.columns.find((each) => each.name === name)!

test('the generator describes each column with its type, native type, nullability, default and description', () => {
  const shown = Object.fromEntries(
    tables.Every!.columns.map((c) => [
      c.name,
      [c.type, c.nullable ? 'null' : 'not null', c.native?.[0], c.native?.[1].join(), c.default, c.generated]
        .filter((part) => part !== undefined && part !== '')
        .join(' '),
    ]),
  )
  expect(shown).toEqual({
    id: 'String not null Char 36',
    parentId: 'String not null Char 36',
    otherId: 'String null Char 36',
    plain: 'String not null',
    plainN: 'String null a "b" // @db.Char(1)',
    char: 'String not null Char 10',
    charN: 'String null Char 10',
    varchar: 'String not null VarChar 100',
    varcharN: 'String null VarChar 100',
    tinyText: 'String null TinyText',
    text: 'String not null Text',
    textN: "String null Text C:\\new 'x'",
    mediumText: 'String null MediumText',
    longText: 'String null LongText',
    int: 'Int not null',
    intN: 'Int null -7',
    tiny: 'Int null TinyInt',
    unsignedInt: 'Int null UnsignedInt',
    bigint: 'BigInt not null',
    bigintN: 'BigInt null 9223372036854775807',
    unsignedBig: 'BigInt null UnsignedBigInt',
    float: 'Float not null',
    floatN: 'Float null 1e-7',
    float4: 'Float null Float',
    decimal: 'Decimal not null Decimal 65,30',
    decimalN: 'Decimal null Decimal 10,2 1.5',
    boolean: 'Boolean not null',
    booleanN: 'Boolean null true',
    datetime: 'DateTime not null DateTime 3',
    datetimeN: 'DateTime null DateTime 6 2020-01-01T01:00:00.500+01:00',
    timestamp: 'DateTime null Timestamp 3',
    date: 'DateTime null Date',
    json: 'Json not null',
    jsonN: 'Json null {"a": [1, "it\'s"]}',
    bytes: 'Bytes not null',
    bytesN: 'Bytes null VarBinary 16 AP8n',
    blob: 'Bytes null Blob',
    exact: 'Decimal null Decimal 30,20 dbgenerated',
    colour: 'Enum not null',
    colourN: 'Enum null GREEN',
    order: 'Int null',
    createdAt: 'DateTime not null DateTime 3 now',
    savedAt: 'DateTime not null DateTime 3 updatedAt',
  })
  expect(column('plain').description).toBe('With "quotes", a `@db.Text` and // in its comment.')
})

test('the generator describes enums, keys, indexes and foreign keys, with the names they have in the database', () => {
  expect(column('colour')).toMatchObject({
    enumName: 'Colour',
    values: [
      { name: 'RED', dbName: 'RED' },
      { name: 'GREEN', dbName: 'the green' },
      { name: 'BLUE', dbName: 'BLUE' },
    ],
  })
  expect(Object.keys(tables)).toEqual(['Parent', 'Every'])
  expect(tables.Parent).toMatchObject({
    dbName: 'parents',
    description: 'The parent, with other names in the database.',
    primaryKey: ['id'],
    references: [],
  })
  expect(tables.Parent!.columns.map(({ dbName }) => dbName)).toEqual(['id', 'the title', 'createdAt', 'saved_at'])
  expect(tables.Every).toMatchObject({
    primaryKey: ['id'],
    indexes: [['parentId', 'createdAt', 'id'], ['text'], ['int', 'textN', 'varchar']],
    unique: [['order'], ['varchar', 'int']],
    references: [
      { columns: ['parentId'], model: 'Parent', parentColumns: ['id'] },
      { columns: ['otherId'], model: 'Every', parentColumns: ['id'] },
    ],
  })
})

test('the types of the generated tables and rows let TypeScript infer columns, types, enum values and nullability', async () => {
  await writeFile(
    join(copy.path, 'src/inferred.ts'),
    `import type { Rows, tables } from '../prisma/mysql/generated/tables.ts'
type Every = (typeof tables)['Every']['columns'][number]
type Texts = Extract<Every, { type: 'String'; nullable: false }>['name']
type Colours = NonNullable<Extract<Every, { name: 'colour' }>['values']>[number]['name']
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false
export const texts: Same<Texts, 'id' | 'parentId' | 'plain' | 'char' | 'varchar' | 'text'> = true
export const colours: Same<Colours, 'RED' | 'GREEN' | 'BLUE'> = true
export const row: Same<Pick<Rows['Every'], 'bigint' | 'textN'>, { bigint: bigint; textN: string | null }> = true
export const rowOfEnum: Same<Rows['Every']['colourN'], 'RED' | 'GREEN' | 'BLUE' | null> = true
`,
  )
  const tsconfig = {
    extends: './tsconfig.json',
    include: ['src/inferred.ts', 'prisma/mysql/generated', 'prisma/generator'],
  }
  await writeFile(join(copy.path, 'tsconfig.inferred.json'), JSON.stringify(tsconfig))
  const tsc = 'node_modules/typescript/bin/tsc'
  await expect(copy.node([tsc, '-p', 'tsconfig.inferred.json'])).resolves.toMatchObject({ stdout: '' })
}, 60_000)

test('the schema of SQLite keeps models, comments, strings and names, and drops what only MySQL has', async () => {
  const text = await readFile(join(copy.path, 'prisma/sqlite/schema.prisma'), 'utf8')
  const lines = text.split('\n').map((line) => line.trim().replace(/\s+/g, ' '))
  for (const line of [
    'provider = "sqlite"',
    'id String @id',
    'title String @map("the title")',
    '@@index([createdAt, id], map: "parents_by_time")',
    '@@map("parents")',
    'parent Parent @relation(fields: [parentId], references: [id], onDelete: Restrict)',
    '/// With "quotes", a `@db.Text` and // in its comment.',
    'plain String // @db.VarChar(3)',
    'plainN String? @default("a \\"b\\" // @db.Char(1)")',
    'decimalN Decimal? @default(1.50)',
    'savedAt DateTime @updatedAt',
    '@@index([parentId, createdAt(sort: Desc), id])',
    '@@index([text])',
    '@@index([int, textN(sort: Desc), varchar(sort: Asc)], map: "prefixes")',
    'GREEN @map("the green")',
  ])
    expect(lines).toContain(line)
  expect(text).not.toMatch(/fulltext|mysql|pothos/)
  // The client of SQLite, generated from it, has the models.
  expect(await readFile(join(copy.path, 'prisma/sqlite/generated/models.ts'), 'utf8')).toContain('models/Every.ts')
})

test('npm run generate runs every generator on its own Node, whatever the one on the PATH is', async () => {
  await using other = await copyPrisma('model Post {\n  id String @id\n}\n')
  const old = join(other.path, 'old')
  await mkdir(old)
  await writeFile(join(old, 'node'), '#!/bin/sh\necho too old >&2\nexit 1\n')
  await chmod(join(old, 'node'), 0o755)
  await other.generate({ PATH: [old, process.env.PATH].join(delimiter) })
  expect(await readFile(join(other.path, 'prisma/mysql/generated/tables.ts'), 'utf8')).toContain('Post: {')
  expect(await readFile(join(other.path, 'prisma/mysql/generated/pothos.ts'), 'utf8')).toContain('Post')
}, 60_000)

test("npm run generate ends with 1 and Prisma's explanation where the schema is wrong", async () => {
  await using other = await copyPrisma('model Post {\n  id Strin @id\n}\n')
  await expect(other.generate()).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('"Strin"') })
}, 60_000)

test.each([
  [
    'a many-to-many relation',
    'model Post {\n  id String @id\n  tags Tag[]\n}\nmodel Tag {\n  id String @id\n  posts Post[]\n}\n',
    'Post.tags is one end of a many-to-many relation: add a model of the relation',
  ],
  [
    'a default whose digits Prisma would round',
    'model Post {\n  id String @id\n  price Decimal @default(0.12345678901234567890)\n}\n',
    'The default of the column price has more than 15 digits',
  ],
])('the generator refuses %s and says what to write', async (_, models, message) => {
  await using other = await copyPrisma(models)
  await expect(other.generate()).rejects.toThrow(message)
})
