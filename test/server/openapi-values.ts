/** Inputs for the test of the OpenAPI document, and a model with every rule beside those of models.ts. */
import { randomUUID } from 'node:crypto'
import { listModels, modelsOf } from '../../src/model/define.ts'
import type { Json } from '../harness/client.ts'
import { column, datamodelOf, models, table, tables } from '../harness/models.ts'

const ruled = {
  ...table('Ruled', [
    column('short', 'String', { native: ['VarChar', '20'] }),
    column('note', 'String', { native: ['Text'] }),
    column('strict', 'String', { native: ['VarChar', '20'] }),
    column('loose', 'String', { native: ['VarChar', '20'] }),
    column('parentId', 'String', { native: ['Char', '36'], nullable: true }),
    column('stars', 'Int'),
    column('atLeast', 'BigInt'),
    column('share', 'Float'),
    column('cost', 'Decimal', { native: ['Decimal', '10', '2'] }),
    column('since', 'DateTime', { native: ['DateTime', '3'] }),
    column('small', 'Bytes', { nullable: true }),
    column('exact', 'Bytes', { native: ['Binary', '2'], nullable: true }),
  ]),
  references: [{ columns: ['parentId'], model: 'Content', parentColumns: ['id'] }],
}
// biome-ignore lint/suspicious/noExplicitAny: the rows of a table that no client was generated for.
const Ruled = modelsOf<any, any>({ Ruled: ruled })('Ruled', {
  columns: {
    short: { maxLength: 3 },
    note: { maxBytes: 8 },
    strict: { pattern: /^[A-Z]{2,}$/ },
    loose: { pattern: /^x+$/i, description: 'Said of it: nothing' },
    stars: { min: 1, max: 5 },
    atLeast: { min: '5' },
    share: { min: 0, max: 1 },
    cost: { min: '0.5', max: '100' },
    since: { min: '2026-01-01T00:00:00.000Z' },
    small: { maxBytes: 3 },
  },
})
export const all = listModels([...models.values(), Ruled])
export const datamodel = datamodelOf({ ...tables, Ruled: ruled })

/** Of each model. */
export const inputs: Record<string, Json> = {
  Content: { content: 'a text' },
  Comment: { postId: 'a post', body: 'a text' },
  Memo: { topic: 1, text: 'a text' },
  Every: {
    ...{ text: 'a text', whole: 1, big: '1', ratio: 1, price: '1', flag: true, at: '2026-01-31T12:00:00Z' },
    ...{ data: {}, bytes: 'AP8=', mood: 'SAD' },
  },
  Ruled: {
    ...{ short: 'abc', note: 'a note', strict: 'ABC', loose: 'xX', stars: 3, atLeast: '7', share: 0.5, cost: '1.50' },
    ...{ since: '2026-01-31T12:00:00Z' },
  },
}

/** Values of every type, good and bad: each column gets each of them. */
export const values: unknown[] = [
  ...[null, true, false, 0, -0, 1, -1, 5, 6, 127, 128, 1.5, 1e21, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), -(2 ** 31) - 1],
  ...[
    2 ** 53 - 1,
    2 ** 53,
    -(2 ** 53),
    '',
    'x',
    'ends with a space ',
    ' x',
    '0123456789',
    '01234567890',
    '😀'.repeat(10),
  ],
  ...[
    '😀'.repeat(11),
    'x'.repeat(100),
    'x'.repeat(101),
    'x'.repeat(1_001),
    '7',
    '-0',
    '007',
    '1.5',
    '12.50',
    '.5',
    '5.',
  ],
  ...['1e5', '-', `${'9'.repeat(35)}.${'9'.repeat(30)}`, '1'.repeat(36), `0.${'1'.repeat(31)}`, '9223372036854775807'],
  ...[
    '2026-01-31T12:00:00Z',
    '2026-01-31T12:00:00.123+02:00',
    '2026-01-31T12:00:00.123400Z',
    '2026-01-31T12:00:00.1000000Z',
  ],
  ...[
    '2026-02-30T12:00:00Z',
    '2026-01-31',
    '2026-01-31T12:00:00',
    '2026-01-31t12:00:00z',
    'AP8=',
    'AP9=',
    'AP8',
    '-_==',
  ],
  ...[
    'AAAAAAAAAAA=',
    'AAAAAAAAAAAA',
    'AAAAAAAAAAAAAAAA',
    'HAPPY',
    'SAD',
    'Mixed_1',
    'happy',
    'GONE',
    {},
    [],
    { a: [1, null] },
  ],
  ...[
    randomUUID(),
    randomUUID().toUpperCase(),
    `${randomUUID()}0`,
    '😀😀😀',
    'ABC',
    'xXx',
    '0.5',
    '100.01',
    '2025-12-31T23:59:59.999Z',
  ],
]

/** What JSON Schema cannot say: the server refuses these, and a schema takes them. */
export const isBeyondSchemas = (column: string, value: unknown) =>
  (/price$/i.test(column) && typeof value === 'number') ||
  (/data$/i.test(column) && typeof value === 'number' && Math.abs(value) >= 2 ** 53) ||
  // The range of a text of digits, an earlier time, bytes of UTF-8, and a pattern with a flag.
  (/^atLeast$|big$/i.test(column) && typeof value === 'string') ||
  (/^(cost|since|note|loose)$/.test(column) && (typeof value === 'string' || column === 'cost')) ||
  // Bytes of the base64 that has no padding are told by its length only to three.
  (/bytes$/i.test(column) && value === 'AAAAAAAAAAAA')
