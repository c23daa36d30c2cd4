/** Columns of every type in GraphQL: what a client sends comes back exactly, as a variable and as a literal, or is refused by name and limit. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { jsonOf } from '../../src/model/model.ts'
import type { Client, Json } from '../harness/client.ts'
import { eventually } from '../harness/eventually.ts'
import { type ModelServer, serveModels } from '../harness/model-server.ts'
import { Every } from '../harness/models.ts'

let server: ModelServer
beforeAll(async () => {
  server = await serveModels()
})
afterAll(() => server?.close())

const types = {
  text: 'String',
  whole: 'Int',
  big: 'BigInt',
  ratio: 'Float',
  price: 'Decimal',
  flag: 'Boolean',
} as const
const all = { ...types, at: 'DateTime', data: 'JSON', bytes: 'Bytes', mood: 'Mood' } as const
type Column = keyof typeof all

const plain = {
  text: 'a',
  whole: 1,
  big: '1',
  ratio: 1.5,
  price: '1.5',
  flag: false,
  at: '2026-01-31T12:00:00.000Z',
  data: {},
  bytes: '',
  mood: 'HAPPY',
}

const defaults = {
  text: 'a text',
  whole: 7,
  big: '9007199254740993',
  ratio: 0.5,
  price: '12.5',
  flag: true,
  at: '2026-01-31T12:00:00.000Z',
  data: { a: [1, null] },
  bytes: 'AP8=',
  mood: 'SAD',
}

const variants = (prefix: string) =>
  Object.keys(all).map((name) => `${prefix}${name[0]!.toUpperCase()}${name.slice(1)}`)

/** Values as they are sent; `out` where they come back in another form. */
const kept: [Column, unknown, out?: unknown][] = [
  ['text', ''],
  ['text', 'é🙂\u0000"\n'],
  ['text', 'x'.repeat(10)],
  ['whole', 2_147_483_647],
  ['whole', -2_147_483_648],
  ['whole', -0, 0],
  ['big', '9223372036854775807'],
  ['big', '-9223372036854775808'],
  ['big', 42, '42'],
  ['big', '007', '7'],
  ['ratio', Number.MAX_VALUE],
  ['ratio', Number.MIN_VALUE],
  ['ratio', 5, 5],
  ['ratio', -0, 0],
  ['price', `${'9'.repeat(35)}.${'9'.repeat(30)}`],
  ['price', '-0', '0'],
  ['price', '1.50', '1.5'],
  ['price', 0.1, '0.1'],
  ['flag', true],
  ['at', '1000-01-01T00:00:00.000Z'],
  ['at', '9999-12-31T23:59:59.999Z'],
  ['at', '2026-01-31T12:00:00+02:00', '2026-01-31T10:00:00.000Z'],
  ['at', '2026-01-31t12:00:00.1230z', '2026-01-31T12:00:00.123Z'],
  ['data', [1, 'two', { three: [null, true, -1.5] }]],
  ['data', 'a text'],
  ['data', { b: 2, a: { z: 1, y: [] } }],
  ['bytes', 'AAEC/w=='],
  ['mood', 'Mixed_1'],
]

const save = 'mutation ($input: EveryInput!) { saveEvery(input: $input, waitMs: 20000) { status every { ROW } } }'
const row = (names: readonly string[]) => save.replace('ROW', names.join(' '))

async function both(ask: (client: Client) => Promise<Json>): Promise<Json> {
  const answers: Json[] = []
  // The fast path compiles a document that is sent a second time.
  for (const url of [server.plain, server.fast, server.fast, server.fast])
    answers.push(await ask(await server.as({}, url)))
  for (const answer of answers) expect(answer).toEqual(answers[0])
  return answers[0]
}

const saved = (query: string, input: object) =>
  both(async (client) => {
    const { body } = await client.graphql(query, { input: { ...plain, ...input } })
    return body.data?.saveEvery ?? body
  })

describe('A column of GraphQL', () => {
  test.each(kept)('%s returns %j exactly, sent as a variable', async (name, value, out = value) => {
    expect(await saved(row([name]), { [name]: value })).toEqual({ status: 'SAVED', every: { [name]: out } })
  })

  test.each(kept)('%s returns %j exactly, sent as a literal', async (name, value, out = value) => {
    const others = Object.entries(plain).filter(([other]) => other !== name)
    const given = [...others, [name, value] as const].map(([key, one]) => `${key}: ${literal(key as Column, one)}`)
    const query = `mutation { saveEvery(input: { ${given.join(' ')} }, waitMs: 20000) { status every { ${name} } } }`
    expect(await saved(query, {})).toEqual({ status: 'SAVED', every: { [name]: out } })
  })

  test('of JSON keeps keys that no literal can have', async () => {
    const data = { '': 1, 'a b': { constructor: 1, toString: [] } }
    expect(await saved(row(['data']), { data })).toEqual({ status: 'SAVED', every: { data } })
  })

  test('is null where it is nullable and left out, or null', async () => {
    const names = variants('maybe')
    const nulls = Object.fromEntries(names.map((name) => [name, null]))
    expect(await saved(row(names), {})).toEqual({ status: 'SAVED', every: nulls })
    expect(await saved(row(names), nulls)).toEqual({ status: 'SAVED', every: nulls })
  })

  test('has its default where it is left out, and null where it is nullable and null', async () => {
    for (const prefix of ['usual', 'seldom']) {
      const names = variants(prefix)
      const expected = Object.fromEntries(names.map((name, i) => [name, Object.values(defaults)[i]]))
      expect(await saved(row(names), {})).toEqual({ status: 'SAVED', every: expected })
    }
    const names = variants('seldom')
    const nulls = Object.fromEntries(names.map((name) => [name, null]))
    expect(await saved(row(names), nulls)).toEqual({ status: 'SAVED', every: nulls })
  })

  const refused: [Column, unknown, string | RegExp][] = [
    ['text', 'x'.repeat(11), 'text of Every is 11 characters long; at most 10 are allowed'],
    ['text', '\ud800', /text of Every holds a lone surrogate/],
    ['text', 5, /String cannot represent a non string value/],
    ['whole', 2_147_483_648, /Int cannot represent non 32-bit signed integer/],
    ['whole', 1.5, /Int cannot represent non-integer/],
    ['whole', '1', /Int cannot represent non-integer/],
    [
      'big',
      '9223372036854775808',
      /big of Every must be at least -9223372036854775808 and at most 9223372036854775807/,
    ],
    ['big', 2 ** 53, /JSON cannot hold exactly; send it as a string of digits/],
    ['big', 1.5, /A BigInt must be a whole number/],
    ['big', 'five', /A BigInt must be a whole number/],
    ['big', true, /A BigInt must be a whole number/],
    ['ratio', '1', /Float cannot represent non numeric value/],
    [
      'price',
      `1.${'1'.repeat(31)}`,
      /price of Every has 1 and 31 digits before and after the point; at most 35 and 30/,
    ],
    ['price', '1'.repeat(36), /price of Every has 36 and 0 digits/],
    ['price', 0.1234567890123456, /price of Every is a number that JSON cannot hold exactly/],
    ['price', 'much', /price of Every must be a decimal number, such as "12.50"/],
    ['price', {}, /A Decimal must be a decimal number/],
    ['flag', 'true', /Boolean cannot represent a non boolean value/],
    ['flag', 1, /Boolean cannot represent a non boolean value/],
    ['at', '2026-01-31T12:00:00.0001Z', /A DateTime is more exact than a millisecond, and would be rounded/],
    ['at', '2026-02-30T12:00:00Z', /A DateTime must be a time with its offset/],
    ['at', '2026-01-31T12:00:00', /A DateTime must be a time with its offset/],
    ['at', 5, /A DateTime must be a text such as/],
    ['at', '0999-12-31T23:59:59.999Z', /at of Every must be at least 1000-01-01T00:00:00.000Z/],
    ['data', nested(31), /data of Every has more than 30 levels/],
    ['data', { a: '\udc00' }, /data of Every holds a lone surrogate/],
    ['bytes', 'AAECAwQFBgcI', /bytes of Every is 9 bytes; at most 8 are allowed/],
    ['bytes', 'AA', /bytes of Every must be base64/],
    ['bytes', 'AB==', /bytes of Every must be base64/],
    ['bytes', [1, 2], /Bytes must be a string, got a list/],
    ['mood', 'happy', /Value "happy" does not exist in "Mood" enum/],
    ['mood', 1, /Enum "Mood" cannot represent non-string value: 1/],
  ]
  test.each(refused)('%s refuses %j, by its name and limit', async (name, value, message) => {
    const answer = await saved(row([name]), { [name]: value })
    expect(answer.errors?.[0].message).toMatch(message)
    expect(answer.errors[0].extensions.code).toBe('BAD_USER_INPUT')
  })

  test.each(Object.entries(all))(
    '%s, which is required, is refused where it is missing or null (%s)',
    async (name, type) => {
      for (const given of [undefined, null]) {
        const answer = await saved(row(['id']), { [name]: given })
        expect(answer.errors[0].message).toMatch(
          given === null
            ? new RegExp(
                `"input\\.${name}" \\(EveryInput\\.${name}\\): Expected a value of the type "${type}!", got null`,
              )
            : new RegExp(`Field "EveryInput\\.${name}" of required type "${type}!" was not provided`),
        )
      }
    },
  )

  test('that does not exist is refused by its name', async () => {
    const answer = await saved(row(['id']), { colour: 'red' })
    expect(answer.errors[0].message).toContain('Field "colour" is not defined by type "EveryInput"')
  })

  const roundedLiterals: [string, RegExp][] = [
    ['data: 9007199254740993', /A number in a JSON literal would be rounded/],
    ['data: { a: [0.1234567890123456789] }', /A number in a JSON literal would be rounded/],
    ['data: 1e999', /A number in a JSON literal would be rounded/],
    ['data: { a: RED }', /JSON has no value RED/],
    ['big: 1.0', /BigInt must be a whole number or a string of digits/],
    ['price: true', /Decimal must be a number or a string/],
    ['at: 5', /DateTime must be a string/],
    ['bytes: 5', /Bytes must be a string of base64/],
  ]
  test.each(roundedLiterals)('refuses the literal %s', async (text, message) => {
    const given = Object.entries(plain)
      .filter(([name]) => !text.startsWith(`${name}:`))
      .map(([name, value]) => `${name}: ${literal(name as Column, value)}`)
    const answer = await saved(`mutation { saveEvery(input: { ${given.join(' ')} ${text} }) { saveId } }`, {})
    expect(answer.errors[0].message).toMatch(message)
  })

  test('of JSON refuses a variable inside a literal', async () => {
    const given = Object.entries(plain)
      .filter(([name]) => name !== 'data')
      .map(([name, value]) => `${name}: ${literal(name as Column, value)}`)
    const answer = await both(async (client) => {
      const query = `mutation ($x: Int) { saveEvery(input: { ${given.join(' ')} data: { a: $x } }) { saveId } }`
      return (await client.graphql(query, { x: 1 })).body
    })
    expect(answer.errors[0].message).toContain('A JSON literal cannot contain variables')
  })

  test('takes the digits of a literal as they are, beyond what JSON holds', async () => {
    const given = Object.entries(plain)
      .filter(([name]) => name !== 'big' && name !== 'price')
      .map(([name, value]) => `${name}: ${literal(name as Column, value)}`)
    const numbers = 'big: 9007199254740993 price: 0.12345678901234567890'
    const query = `mutation { saveEvery(input: { ${given.join(' ')} ${numbers} }, waitMs: 20000) { status every { big price } } }`
    expect(await saved(query, {})).toEqual({
      status: 'SAVED',
      every: { big: '9007199254740993', price: '0.1234567890123456789' },
    })
  })
})

describe('editDeadLetter', () => {
  const id = '00000000-0000-7000-8000-000000000001'
  const query = 'mutation ($id: ID!, $input: JSON!) { editDeadLetter(id: $id, input: $input) { status } }'
  const root = { scope: 'read write admin' }
  const edited = async (input: object, how = query) => (await (await server.as(root)).graphql(how, { id, input })).body
  const refused: [Column | 'maybeWhole' | 'colour', unknown, RegExp][] = [
    ['text', 'x'.repeat(11), /^text of Every is 11 characters long; at most 10 are allowed$/],
    ['maybeWhole', 2_147_483_648, /^maybeWhole of Every must be at least .* at most 2147483647, got 2147483648$/],
    ['big', '9223372036854775808', /^big of Every must be .* at most 9223372036854775807, got 9223372036854775808$/],
    ['big', 9_007_199_254_740_992, /^big of Every is a number that JSON cannot hold exactly; send it as a string/],
    ['price', '1e3', /^price of Every must be a decimal number, such as "12.50"$/],
    ['flag', 'true', /^flag of Every must be true or false, got string$/],
    ['at', '2026-02-30T00:00:00Z', /^at of Every must be a time with its offset/],
    ['data', { a: [9_007_199_254_740_992] }, /^data of Every holds a whole number beyond 2\^53/],
    ['bytes', 'AP8', /^bytes of Every must be base64/],
    ['mood', 'GONE', /^mood of Every must be one of HAPPY, SAD, Mixed_1, got "GONE"$/],
    ['ratio', null, /^ratio of Every must not be null$/],
    ['colour', 'red', /^"colour" is no column of Every/],
  ]
  const literalOf = (input: object) =>
    `mutation { editDeadLetter(id: "${id}", input: ${jsonLiteral(input)}) { status } }`

  test('takes the input of a dead letter as it is shown, and refuses a value by its column and limit', async () => {
    const row = { id, createdAt: new Date(5), savedAt: new Date(5), ...plain }
    await server.store.insert(Every, [row])
    const input = { ...plain, data: { a: [-1.5e-7, 9_007_199_254_740_991, 'é'] }, seldomBig: null, maybePrice: '0.30' }
    const saving = 'mutation ($input: EveryInput!) { saveEvery(input: $input, waitMs: 20000) { status } }'
    const { body } = await (await server.as({})).graphql(saving, { input: { ...input, id } })
    expect(body.data.saveEvery).toEqual({ status: 'FAILED' })
    const list = '{ deadLetters { edges { node { input } } } }'
    const { edges } = (await (await server.as(root)).graphql(list)).body.data.deadLetters
    const shown = edges[0].node.input
    expect(shown).toMatchObject({ ...input, maybePrice: '0.3', usualAt: defaults.at })
    for (const [name, value, message] of refused) {
      const all = { ...shown, [name]: value }
      for (const { errors } of [await edited(all), await edited({}, literalOf(all))])
        expect(errors, name).toMatchObject([
          { message: expect.stringMatching(message), extensions: { code: 'BAD_USER_INPUT' } },
        ])
    }
    const rounded = await edited({}, literalOf(shown).replace('9007199254740991', '9007199254740993'))
    expect(rounded.errors[0].message).toContain('A number in a JSON literal would be rounded')
    server.store.remove(Every, id)
    expect(await edited({}, literalOf(shown))).toEqual({ data: { editDeadLetter: { status: 'QUEUED' } } })
    await eventually(async () => (await server.app.queue.status()).depth === 0)
    const [saved] = await server.store.find(Every, [id])
    expect(jsonOf(Every, saved!)).toEqual(shown)
  })
})

describe('saveEverything', () => {
  const query = 'mutation ($inputs: [EveryInput!]!) { saveEverything(inputs: $inputs) { saveId status } }'

  test('refuses a thousand inputs with one bad row whole, and names the row and the column', async () => {
    await eventually(async () => (await server.app.queue.status()).depth === 0)
    const inputs = Array.from({ length: 1_000 }, (_, i) => (i === 617 ? { ...plain, price: 'much' } : plain))
    const { body } = await (await server.as({})).graphql(query, { inputs })
    expect(body).toMatchObject({
      data: { saveEverything: null },
      errors: [
        {
          message: 'inputs[617].price of Every must be a decimal number, such as "12.50"',
          extensions: { code: 'BAD_USER_INPUT' },
        },
      ],
    })
    expect((await server.app.queue.status()).depth).toBe(0)
  })

  test('refuses more than 1,000 inputs', async () => {
    const inputs = Array.from({ length: 1_001 }, () => plain)
    const { body } = await (await server.as({})).graphql(query, { inputs })
    expect(body.errors[0].message).toContain('at most 1000 inputs may be saved at once, got 1001')
  })
})

function literal(name: Column, value: unknown): string {
  if (name === 'mood') return String(value)
  if (name === 'data') return jsonLiteral(value)
  return Object.is(value, -0) ? '-0' : JSON.stringify(value)
}

/** As GraphQL writes it: names without quotes, so that only keys that are names can be written. */
function jsonLiteral(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(jsonLiteral).join(', ')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const fields = Object.entries(value).map(([key, one]) => `${key}: ${jsonLiteral(one)}`)
  return `{ ${fields.join(', ')} }`
}

function nested(levels: number): unknown {
  return levels === 0 ? 1 : [nested(levels - 1)]
}
