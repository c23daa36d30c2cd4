/** Random rows of the model with a column of every type: what a client sends, and what comes back. */
import { Decimal } from 'decimal.js'
import fc from 'fast-check'
import type { Json } from '../harness/client.ts'
import { types } from './every.ts'

interface Value {
  input: Json
  output: Json
}

const same = <T>(arbitrary: fc.Arbitrary<T>) => arbitrary.map((input): Value => ({ input, output: input }))
const text = (maxLength: number) => fc.string({ unit: 'binary', maxLength })
const characters = (most: number) => text(most).filter((value) => [...value].length <= most)
const digits = (most: number) =>
  fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: most }).map((some) => some.join(''))
/** -0 is 0 in JSON texts of the databases. */
const plusZero = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
const isSafe = (value: unknown): boolean =>
  typeof value === 'number'
    ? !Number.isInteger(value) || Number.isSafeInteger(value)
    : typeof value !== 'object' || value === null || Object.values(value).every(isSafe)

const values: Record<string, fc.Arbitrary<Value>> = {
  text: same(characters(20)),
  char: same(characters(10).filter((value) => !value.endsWith(' '))),
  note: same(text(63)),
  whole: same(fc.integer()),
  tiny: same(fc.integer({ min: -128, max: 127 })),
  big: same(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String)),
  ratio: fc
    .double({ noNaN: true, noDefaultInfinity: true })
    .map((input) => ({ input, output: input === 0 ? 0 : input })),
  price: fc.tuple(fc.boolean(), digits(35), digits(30)).map(([minus, before, after]) => {
    const input = `${minus ? '-' : ''}${before || '0'}${after ? `.${after}` : ''}`
    return { input, output: new Decimal(input).isZero() ? '0' : new Decimal(input).toFixed() }
  }),
  flag: same(fc.boolean()),
  at: same(
    fc
      .date({
        min: new Date('1000-01-01T00:00:00.000Z'),
        max: new Date('9999-12-31T23:59:59.999Z'),
        noInvalidDate: true,
      })
      .map((date) => date.toISOString()),
  ),
  data: fc
    .jsonValue({ maxDepth: 5 })
    .filter((value) => value !== null && isSafe(value))
    .map((input) => ({ input, output: plusZero(input) })),
  bytes: same(fc.uint8Array({ maxLength: 64 }).map((value) => Buffer.from(value).toString('base64'))),
  fixed: same(fc.uint8Array({ minLength: 4, maxLength: 4 }).map((value) => Buffer.from(value).toString('base64'))),
  mood: same(fc.constantFrom('HAPPY', 'SAD')),
}

export const arbitraryRow: fc.Arbitrary<{ input: Record<string, Json>; output: Record<string, Json> }> = fc
  .record(Object.fromEntries(Object.keys(types).map((name) => [name, values[name]!])))
  .map((row) => {
    const pick = (side: keyof Value) =>
      Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value[side]]))
    return { input: pick('input'), output: pick('output') }
  })
