/** A model with a column of every type: its migration on real databases, and what raw parameters and Prisma's clients write and read. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Dialect } from '../../src/db/dialect.ts'
import { migrate } from '../../src/db/migrate.ts'
import { startMariadb } from '../harness/mariadb.ts'
import { copyPrisma, type PrismaCopy } from '../harness/prisma-copy.ts'
import { quiet } from '../harness/quiet.ts'

let server: Awaited<ReturnType<typeof startMariadb>>
let copy: PrismaCopy
beforeAll(async () => {
  server = await startMariadb()
  copy = await copyPrisma(await readFile(new URL('./every-type.prisma', import.meta.url), 'utf8'))
  await copy.node(['src/commands/migration.ts', 'every_type'])
}, 120_000)
afterAll(async () => {
  await copy[Symbol.asyncDispose]()
  await server.cleanup()
})

/** Of the copy, whose Prisma clients know the model. */
async function open(kind: string): Promise<Dialect> {
  const source = await import(pathToFileURL(join(copy.path, `src/db/${kind}.ts`)).href)
  const { prisma } = await import(pathToFileURL(join(copy.path, 'src/models/prisma.ts')).href)
  const dialect: Dialect =
    kind === 'mysql'
      ? source.mysqlDialect({
          url: await server.createDatabase(),
          concurrency: 1,
          client: prisma.mysql,
          folder: prisma.folder,
          tables: [],
          log: quiet(),
        })
      : source.sqliteDialect(`file:${join(copy.path, 'every.db')}`, {
          client: prisma.sqlite,
          folder: prisma.folder,
          log: quiet(),
        })
  const database = await dialect.migratable(AbortSignal.timeout(20_000))
  try {
    expect(await migrate(database, quiet())).toEqual([expect.stringMatching(/^\d{14}_every_type$/)])
  } finally {
    await database.close()
  }
  return dialect
}

// biome-ignore lint/suspicious/noExplicitAny: a client with models of the test's own.
type AnyClient = any

const digits = '12345678901234567890123456789012345.123456789012345678901234567891'
const deep = `${'[ '.repeat(31)}${' ]'.repeat(31)}`
/** Per column: raw parameters, and what the client reads where that is not the same. */
const values: Record<string, [parameter: string | number | Buffer, read?: unknown][]> = {
  plain: [['a\0b😀\'"`\\ é\r\n '], ['😀'.repeat(191)], ['']],
  char: [['abc\t'], ['😀'.repeat(10)]],
  varchar: [['  abc   '], ['   ']],
  text: [['x'.repeat(65_535)], ['😀'.repeat(16_383)]],
  longText: [['😀'.repeat(100_000)]],
  int: [
    ['2147483647', 2147483647],
    ['-2147483648', -2147483648],
  ],
  unsignedInt: [['4294967295', 4294967295]],
  bigint: [
    ['9223372036854775807', 9223372036854775807n],
    ['-9223372036854775808', -9223372036854775808n],
    ['9007199254740993', 9007199254740993n],
  ],
  float: [[0.1], [1 / 3], [Number.MAX_VALUE], [Number.MIN_VALUE], [-1e21], [9007199254740992], [0.30000000000000004]],
  decimal: [[digits], [`-${'9'.repeat(35)}.${'9'.repeat(30)}`], ['0.000000000000000000000000000001'], ['0'], ['-7.5']],
  boolean: [
    ['1', true],
    ['0', false],
  ],
  json: [
    ['{"b":[null,true,"😀\\u0000"],"a":-0.5e-7}', { b: [null, true, '😀\0'], a: -0.5e-7 }],
    ['"text "', 'text '],
    [deep, JSON.parse(deep)],
    ['1.0', 1],
    ['{"n":12345678901234567890}', { n: Number('12345678901234567890') }],
  ],
  bytes: [[Buffer.from([0, 255, 39, 92, 10, 34, 128])], [Buffer.alloc(0)], [Buffer.alloc(70_000, 0xf0)]],
  colour: [['RED'], ['the green', 'GREEN']],
}
const times = ['1000-01-01T00:00:00.000Z', '1969-12-31T23:59:59.999Z', '9999-12-31T23:59:59.999Z']

describe.each(['mysql', 'sqlite'])('A model with every type of column on %s', (kind) => {
  let dialect: Dialect
  let client: AnyClient
  let made = 0
  const quoted = (name: string) => (kind === 'mysql' ? `\`${name}\`` : `"${name}"`)
  const time = '2026-01-02T03:04:05.678Z'
  const required: Record<string, unknown> = {
    parentId: 'parent',
    ...{ plain: 'a', char: 'a', varchar: 'a', text: 'a', int: '1', bigint: '1', float: 1, decimal: '1', boolean: '1' },
    ...{ json: '1', bytes: Buffer.from('a'), colour: 'RED' },
  }
  beforeAll(async () => {
    dialect = await open(kind)
    client = dialect.primary
    const at = dialect.timestamp(new Date(time))
    required.datetime = at
    required.savedAt = at
    const columns = ['id', 'the title', 'createdAt', 'saved_at'].map(quoted).join(', ')
    await client.$executeRawUnsafe(`INSERT INTO parents (${columns}) VALUES (?, ?, ?, ?)`, 'parent', 'a', at, at)
  })
  afterAll(() => dialect.close())

  async function insert(row: Record<string, unknown>): Promise<string> {
    const id = `row ${++made}`
    const all = Object.entries({ ...required, varchar: id, ...row, id })
    const names = all.map(([name]) => quoted(name)).join(', ')
    const sql = `INSERT INTO Every (${names}) VALUES (${all.map(() => '?').join(', ')})`
    await client.$executeRawUnsafe(sql, ...all.map(([, value]) => value))
    return id
  }
  const read = async (id: string) => plain((await client.every.findMany({ where: { id } }))[0])

  test.each(Object.keys(values))('reads a value of the column %s as the raw parameter was', async (column) => {
    for (const [parameter, expected = parameter] of values[column]!) {
      const row = await read(await insert({ [column]: parameter }))
      expect(row[column]).toEqual(plain({ value: expected }).value)
    }
  })

  test('reads a time as the dialect writes it', async () => {
    for (const iso of times) {
      const row = await read(await insert({ datetime: dialect.timestamp(new Date(iso)) }))
      expect((row.datetime as Date).toISOString()).toBe(iso)
    }
  })

  test('reads null in each optional column, and the default in each that is not named', async () => {
    const optional = ['plainN', 'intN', 'bigintN', 'decimalN', 'booleanN', 'datetimeN', 'jsonN', 'bytesN', 'colourN']
    const row = await read(await insert(Object.fromEntries(optional.map((name) => [name, null]))))
    for (const name of optional) expect([name, row[name]]).toEqual([name, null])
    const defaults = await read(await insert({}))
    expect(defaults).toMatchObject({
      plainN: 'a "b" // @db.Char(1)',
      intN: -7,
      bigintN: 9223372036854775807n,
      decimalN: '1.5',
      booleanN: true,
      colourN: 'GREEN',
      textN: "C:\\new 'x'",
      floatN: 1e-7,
      datetimeN: new Date('2020-01-01T00:00:00.500Z'),
      jsonN: { a: [1, "it's"] },
      bytesN: Buffer.from([0, 255, 39]),
      blob: Buffer.alloc(0),
      exact: '0.1234567890123456789',
      otherId: null,
    })
    expect(Math.abs(Date.now() - +(defaults.createdAt as Date))).toBeLessThan(60_000)
  })

  test('reads and finds what its Prisma client wrote', async () => {
    const { Prisma } = await import(pathToFileURL(join(copy.path, 'prisma/mysql/generated/client.ts')).href)
    const data = {
      ...{ id: 'client', parentId: 'parent', plain: 'a\0b😀', char: 'a', varchar: 'client', text: '', int: -1 },
      ...{ bigint: -9223372036854775808n, float: 0.1, decimal: new Prisma.Decimal(digits), boolean: true },
      ...{ datetime: new Date(times[1]!), json: { a: [1, null, '😀'] }, bytes: new Uint8Array([0, 255, 39]) },
      ...{ colour: 'GREEN', createdAt: new Date(time) },
    }
    await client.every.create({ data })
    expect(await read('client')).toMatchObject(plain(data))
    const { json: _, ...exact } = data
    expect(await client.every.count({ where: exact })).toBe(1)
    await client.every.update({ where: { id: 'client' }, data: { decimal: new Prisma.Decimal('-0.1'), json: [1] } })
    expect(await read('client')).toMatchObject({ decimal: '-0.1', json: [1] })
  })

  test('refuses a child whose parent is missing, and a row without a required column', async () => {
    await expect(insert({ parentId: 'none' })).rejects.toThrow(/foreign key/i)
    await expect(insert({ other_id: 'none' })).rejects.toThrow(/foreign key/i)
    await expect(insert({ bytes: null })).rejects.toThrow(/null/i)
    const id = await insert({})
    expect((await read(await insert({ other_id: id }))).otherId).toBe(id)
  })
})

/** Decimals as texts with all digits, bytes as buffers. */
function plain(row: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => {
      if (value instanceof Uint8Array) return [name, Buffer.from(value)]
      const isDecimal = typeof value === 'object' && value !== null && 'toFixed' in value
      return [name, isDecimal ? (value as { toFixed(): string }).toFixed() : value]
    }),
  )
}
