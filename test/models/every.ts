/** A model with a column of every type for a copy of the tree: required, nullable, and with a default; and values of each type. */
import { type BootOptions, boot, type SetUp, type Spillway } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { addToIndex, copyTree, type Tree } from '../harness/tree.ts'

export interface Type {
  /** In the Prisma schema. */
  prisma: string
  /** The default, in the Prisma schema and as clients get it. */
  usual: readonly [prisma: string, output: Json]
  /** As a client sends it, and as it comes back where that differs. */
  kept: readonly (readonly [input: Json, output?: Json])[]
  /** As a client sends it, and what the error says. */
  refused: readonly (readonly [input: Json, message: RegExp])[]
}

const nested = (levels: number): Json =>
  levels === 0 ? 1 : levels % 2 ? [nested(levels - 1)] : { a: nested(levels - 1) }
const base64 = (bytes: number, fill = 255) => Buffer.alloc(bytes, fill).toString('base64')

export const types: Record<string, Type> = {
  text: {
    prisma: 'String @db.VarChar(20)',
    usual: ['"a \\"text\\""', 'a "text"'],
    kept: [[''], ['😀'.repeat(20)], ['a\0b\'"`\\%_'], ['  spaces  '], ['ﬀ é e\u0301\u2028\r\n']],
    refused: [
      ['x'.repeat(21), /text of Every is 21 characters long; at most 20 are allowed/],
      ['😀'.repeat(21), /at most 20 are allowed/],
      ['\ud83d', /text of Every holds a lone surrogate/],
      [7, /string/],
    ],
  },
  char: {
    prisma: 'String @db.Char(10)',
    usual: ['"ten"', 'ten'],
    kept: [['abc'], [''], ['😀'.repeat(10)], [' abc\t']],
    refused: [
      ['abc ', /char of Every ends with a space/],
      ['x'.repeat(11), /char of Every is 11 characters long; at most 10/],
    ],
  },
  note: {
    prisma: 'String @db.TinyText',
    usual: ['"é"', 'é'],
    kept: [[`${'é'.repeat(127)}x`], ['']],
    refused: [['é'.repeat(128), /note of Every is 256 bytes of UTF-8; at most 255 are allowed/]],
  },
  whole: {
    prisma: 'Int',
    usual: ['-7', -7],
    kept: [[2_147_483_647], [-2_147_483_648], [0], [-0, 0]],
    refused: [
      [2_147_483_648, /2147483648|32-bit/],
      [1.5, /whole number|integer/],
      ['1', /whole number|integer/],
    ],
  },
  tiny: {
    prisma: 'Int @db.TinyInt',
    usual: ['1', 1],
    kept: [[127], [-128]],
    refused: [[128, /tiny of Every must be at least -128 and at most 127, got 128/]],
  },
  big: {
    prisma: 'BigInt',
    usual: ['9007199254740993', '9007199254740993'],
    kept: [
      ['9007199254740993'],
      ['-9223372036854775808'],
      ['9223372036854775807'],
      [5, '5'],
      ['-0', '0'],
      ['007', '7'],
    ],
    refused: [
      ['9223372036854775808', /big of Every must be at least -9223372036854775808 and at most 9223372036854775807/],
      [9_007_199_254_740_992, /JSON cannot hold exactly/],
      ['1.5', /whole number/],
    ],
  },
  ratio: {
    prisma: 'Float',
    usual: ['0.1', 0.1],
    kept: [[0.1], [1 / 3], [Number.MAX_VALUE], [Number.MIN_VALUE], [-0, 0], [1e21], [-1e-7], [2 ** 53 + 2]],
    refused: [['1', /number|non numeric/]],
  },
  price: {
    prisma: 'Decimal @db.Decimal(65, 30)',
    usual: ['12.5', '12.5'],
    kept: [
      [`${'9'.repeat(35)}.${'9'.repeat(30)}`],
      [`-${'1'.repeat(35)}`],
      [`-0.${'0'.repeat(29)}1`],
      ['12.50', '12.5'],
      ['-0', '0'],
      [12.5, '12.5'],
      ['0000.0', '0'],
    ],
    refused: [
      ['1'.repeat(36), /price of Every has 36 and 0 digits .*at most 35 and 30 are allowed/],
      [`0.${'1'.repeat(31)}`, /price of Every has 1 and 31 digits/],
      ['1e5', /decimal number/],
      [0.12345678901234568, /JSON cannot hold exactly/],
    ],
  },
  flag: {
    prisma: 'Boolean',
    usual: ['true', true],
    kept: [[true], [false]],
    refused: [
      [1, /true or false|boolean/],
      ['true', /true or false|boolean/],
    ],
  },
  at: {
    prisma: 'DateTime @db.DateTime(3)',
    usual: ['"2026-01-31T12:00:00.000Z"', '2026-01-31T12:00:00.000Z'],
    kept: [
      ['1969-12-31T23:59:59.999Z'],
      ['1000-01-01T00:00:00.000Z'],
      ['9999-12-31T23:59:59.999Z'],
      ['2026-01-31T12:00:00+02:00', '2026-01-31T10:00:00.000Z'],
      ['2026-01-31T12:00:00.123000z', '2026-01-31T12:00:00.123Z'],
    ],
    refused: [
      ['2026-01-31T12:00:00.123456Z', /more exact than a millisecond/],
      ['2026-02-30T00:00:00.000Z', /RFC 3339/],
      ['2026-01-01T24:00:00.000Z', /RFC 3339/],
      ['0999-12-31T23:59:59.999Z', /at of Every must be at least 1000-01-01T00:00:00.000Z/],
      ['2026-01-31', /RFC 3339/],
      [0, /text such as|must be/],
    ],
  },
  data: {
    prisma: 'Json',
    usual: ['"{\\"a\\":[1,null]}"', { a: [1, null] }],
    kept: [
      [{ b: 1, a: [null, true, '😀\0', 1e-7, 0.1] }],
      [nested(30)],
      ['a text'],
      [5],
      [false],
      [[]],
      [{}],
      [{ a: -0 }, { a: 0 }],
      [JSON.parse('{"__proto__":{"a":1},"constructor":2,"":3}')],
      ['null'],
    ],
    refused: [
      [nested(31), /data of Every has more than 30 levels/],
      [{ a: [Number('12345678901234567890')] }, /data of Every holds a whole number beyond 2\^53/],
      [{ '\ud83d': 1 }, /data of Every holds a lone surrogate/],
    ],
  },
  bytes: {
    prisma: 'Bytes @db.VarBinary(64)',
    usual: ['"AP8="', 'AP8='],
    kept: [[''], ['AP8nXCIK'], [base64(64)], [base64(3, 0)]],
    refused: [
      [base64(65), /bytes of Every is 65 bytes; at most 64 are allowed/],
      ['AP8', /base64/],
      ['AP9=', /base64/],
      ['-_==', /base64/],
    ],
  },
  fixed: {
    prisma: 'Bytes @db.Binary(4)',
    usual: ['"AAAAAA=="', 'AAAAAA=='],
    kept: [[base64(4)], [base64(4, 0)]],
    refused: [[base64(3), /fixed of Every is 3 bytes; exactly 4 are allowed/]],
  },
  mood: {
    prisma: 'Mood',
    usual: ['SAD', 'SAD'],
    kept: [['HAPPY'], ['SAD']],
    refused: [
      ['GONE', /HAPPY|Mood/],
      ['very sad', /HAPPY|Mood/],
    ],
  },
}

const capital = (name: string) => name[0]!.toUpperCase() + name.slice(1)
export const nullableOf = (name: string) => `maybe${capital(name)}`
export const usualOf = (name: string) => `usual${capital(name)}`
export const columns = Object.keys(types).flatMap((name) => [name, nullableOf(name), usualOf(name)])

const lines = Object.entries(types).flatMap(([name, { prisma, usual }]) => {
  const [type, native = ''] = prisma.split(' @')
  const at = native && `@${native}`
  return [
    `${name} ${type} ${at}`,
    `${nullableOf(name)} ${type}? ${at}`,
    `${usualOf(name)} ${type} @default(${usual[0]}) ${at}`,
  ]
})
export const schema = `
model Every {
  id String @id @db.Char(36)
  ${lines.join('\n  ')}
  createdAt DateTime @db.DateTime(3)
  savedAt DateTime @db.DateTime(3)
  @@index([createdAt, id])
}

enum Mood {
  HAPPY
  SAD @map("very sad")
}
`

/** A copy of the tree with the model, in two files, and its migration. */
export async function treeWithEvery(): Promise<Tree> {
  const tree = await copyTree(schema)
  await tree.write(
    'src/models/every.ts',
    "import { defineModel } from './prisma.ts'\n\nexport const Every = defineModel('Every', {})\n",
  )
  await addToIndex(tree, 'Every')
  await tree.node(['src/commands/migration.ts', 'every_type'])
  return tree
}

/** Starts processes of the copy. */
export const bootTree = (tree: Tree, setUp: SetUp, options: BootOptions = {}): Promise<Spillway> =>
  boot(setUp, { ...options, workers: 1, tree: tree.path })
