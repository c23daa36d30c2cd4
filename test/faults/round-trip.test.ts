/**
 * What you read is what you wrote (P8), code unit for code unit: every character there is, and what a fuzzer makes of them, in by every way
 * in, out by every way out, on both set-ups. What cannot be kept unchanged is refused at the door.
 */
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps } from '../harness/boot.ts'
import { holds } from '../harness/eventually.ts'
import { putRows } from '../harness/rows.ts'
import { SseClient } from '../harness/sse.ts'

const limit = 65_536
const bytes = (text: string) => Buffer.byteLength(text)

/** Every Unicode scalar value once, in order, in contents as large as may be. */
function allOfUnicode(): string[] {
  const texts: string[] = []
  let text = ''
  for (let point = 0; point <= 0x10ffff; point++) {
    if (point >= 0xd800 && point <= 0xdfff) continue
    text += String.fromCodePoint(point)
    // 4 bytes at the most for each.
    if (text.length % 1_000 < 2 && bytes(text) > limit - 5_000) {
      texts.push(text)
      text = ''
    }
  }
  return [...texts, text]
}

/** What has a meaning of its own to something on the way. */
const special = [
  [
    '',
    ' ',
    '\0',
    '\0\0\0',
    'a\0b',
    '\n',
    '\r\n',
    '\r',
    '\t',
    '\u2028\u2029\u0085',
    '\x1b[31mred\x07',
    '\x7f',
    '\ufeff',
    '\ufeffbom',
  ],
  [
    'null',
    'undefined',
    'true',
    '0',
    '-0',
    '1e400',
    '[]',
    '{}',
    '{"content":"x","id":"y"}',
    '{"v":2,"at":1}',
    '"quoted"',
    '\\u0041',
    '\\',
  ],
  [
    '{"__proto__":{"polluted":1}}',
    '__proto__',
    'constructor',
    '[object Object]',
    'NaN',
    '2026-11-25T12:00:00.000Z',
    '\\ud800',
    '\\0',
    '""',
  ],
  [
    "'",
    "''",
    '`',
    '"',
    "'; DROP TABLE Content; --",
    "\\'; DROP TABLE Content; #",
    '%',
    '_',
    '?',
    '??',
    ':id',
    '$1',
    '/* */ --',
    "x' OR '1'='1",
  ],
  [
    '\x1a',
    '\\\x1a\\%\\_',
    "_binary'x'",
    '$\u007bx}',
    '$(reboot)',
    'EOF\n',
    '0x00',
    'NULL',
    ' trailing ',
    'trailing\0',
    'A',
    'a',
    'a ',
    'Ä',
    'A\u0308',
  ],
  [
    'שלום עולם',
    'مرحبا بالعالم',
    '\u202eevil\u202c',
    '\u200f\u200e\u061c',
    'é',
    'e\u0301',
    `z${'\u0335\u0322\u0489'.repeat(40)}`,
    '각',
    '각',
  ],
  [
    '😀',
    '👩‍👩‍👧‍👦',
    '🏴󠁧󠁢󠁥󠁮󠁧󠁿',
    '🇩🇪',
    '👍🏿',
    '\u{10ffff}',
    '\u{1fffe}\u{1ffff}',
    '\ufdd0\ufdef\ufffe\uffff',
    '\ufffd',
    '\u{e0001}',
    '\u{f0000}\u{100000}',
    'İıſK',
  ],
  [
    'data: x\n\nid: 1\n\n',
    'event: complete\n\n',
    '</script><script>',
    '&lt;&amp;',
    '<!--',
    ']]>',
    '#{x}',
    '{{x}}',
    '"""',
    '\\"""',
    '# comment',
  ],
  ['*3\r\n$3\r\nSET\r\n', '*0\r\n', '-ERR', '+OK\r\n', '(%S+)', '0-0', '0-1 0-2', 'x y'],
  // Exactly as long as may be, in characters of 1, 2, 3 and 4 bytes, and with what has to be escaped on the way.
  ['x', '\0', '"', "'", '\\', '\n', '%'].map((one) => one.repeat(limit)),
  [
    'é'.repeat(limit / 2),
    `${'€'.repeat(21_845)}x`,
    '😀'.repeat(limit / 4),
    'x'.repeat(limit - 1),
    `${'x'.repeat(limit - 4)}😀`,
  ],
].flat()

const anyText = fc.string({ unit: 'binary', maxLength: 300 })
const fuzzed = fc.oneof(
  { weight: 4, arbitrary: anyText },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', minLength: 1_000, maxLength: 16_384, size: 'max' }) },
  { weight: 1, arbitrary: fc.json() },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom("'", '"', '\\', '\0', '`'), anyText).map(([a, b]) => a + b + a) },
)

/** A text as a GraphQL string literal: as JSON would have it, every code unit escaped, every code point escaped. */
const literals = [
  (text: string) => JSON.stringify(text),
  (text: string) =>
    `"${text
      .split('')
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
      .join('')}"`,
  (text: string) => `"${[...text].map((point) => `\\u{${point.codePointAt(0)!.toString(16)}}`).join('')}"`,
]

interface Sent {
  id: string
  content: string
}

/** The ways in. Each resolves when all of it is acknowledged. */
const ways: Record<string, (system: Spillway, all: Sent[]) => Promise<void>> = {
  'GraphQL variables': (system, all) =>
    eachOf(all, async ({ id, content }) => {
      const { body } = await system.client.graphql(
        'mutation ($id: ID, $content: String!) { save(id: $id, content: $content) { saveId status } }',
        { id, content },
      )
      expect(body).toEqual({ data: { save: { saveId: id, status: 'QUEUED' } } })
    }),
  'GraphQL literals': (system, all) =>
    eachOf(all, async ({ id, content }, n) => {
      // Escaping multiplies by up to twelve; the largest would be more than a request may be.
      const literal = literals[bytes(content) > 20_000 ? 0 : n % literals.length]!
      const { body } = await system.client.graphql(
        `mutation { save(id: "${id}", content: ${literal(content)}) { saveId status } }`,
      )
      expect(body).toEqual({ data: { save: { saveId: id, status: 'QUEUED' } } })
    }),
  'POST /save': (system, all) =>
    eachOf(all, async ({ id, content }) => {
      const response = await fetch(`${system.url}/save`, { method: 'POST', body: JSON.stringify({ id, content }) })
      expect([response.status, await response.json()]).toEqual([202, { id, status: 'QUEUED' }])
    }),
  saveMany: (system, all) => eachOf(chunks(all, 900_000), (chunk) => saveMany(system, chunk)),
}

async function saveMany(system: Spillway, inputs: Sent[]): Promise<void> {
  const { body } = await system.client.graphql(
    'mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId status } }',
    { inputs },
  )
  expect(body).toEqual({ data: { saveMany: inputs.map(({ id }) => ({ saveId: id, status: 'QUEUED' })) } })
}

/** A few at a time. */
async function eachOf<T>(all: readonly T[], act: (one: T, n: number) => Promise<void>): Promise<void> {
  let next = 0
  const partition = async () => {
    for (let n = next++; n < all.length; n = next++) await act(all[n]!, n)
  }
  await Promise.all(Array.from({ length: 12 }, partition))
}

/** In requests of so many characters of JSON. */
function chunks(all: readonly Sent[], length: number): Sent[][] {
  const found: Sent[][] = []
  let room = 0
  for (const one of all) {
    const size = bytes(JSON.stringify(one.content)) + 100
    if (size > room || found.at(-1)!.length >= 500) {
      found.push([])
      room = length
    }
    found.at(-1)!.push(one)
    room -= size
  }
  return found
}

/** Equal, code unit for code unit. Where not, says where: a diff of 64 KiB tells nobody anything. */
function difference(sent: string, got: unknown): string | undefined {
  if (got === sent) return undefined
  if (typeof got !== 'string') return `it came back as ${JSON.stringify(got)}`
  const at = Array.from(sent).findIndex((_, n) => sent[n] !== got[n])
  const show = (text: string) => JSON.stringify(text.slice(Math.max(0, at - 3), at + 5))
  return `${sent.length} code units came back as ${got.length}, from ${at} on ${show(sent)} as ${show(got)}`
}

function expectAll(where: string, sent: readonly Sent[], got: Map<string, unknown>): void {
  const wrong = sent.flatMap(({ id, content }) => {
    const found = difference(content, got.get(id))
    return found ? [`${where}: ${found}`] : []
  })
  expect(wrong).toEqual([])
  expect(got.size, where).toBe(sent.length)
}

describe.each(setUps)('Spillway (%s) round-trips a content', (setUp) => {
  const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
  const sent: Sent[] = []
  const accepted = new Set<string>()
  let system: Spillway
  let subscriber: SseClient

  beforeAll(async () => {
    system = await boot(setUp)
    subscriber = await SseClient.open(system.url, 'subscription { saved { cursor content { id content } } }')
  })
  afterAll(async () => {
    subscriber?.close()
    await system?.stop()
  })

  describe(`(TEST_SEED=${seed})`, () => {
    test.each(Object.keys(ways))('saved by %s', { timeout: 60_000 }, async (way) => {
      const unicode = allOfUnicode()
      // Each way in has its share of Unicode, and all of what is special.
      const share = unicode.filter((_, n) => n % Object.keys(ways).length === Object.keys(ways).indexOf(way))
      const texts = [...share, ...special, ...fc.sample(fuzzed, { numRuns: 80, seed })]
      const all = texts.map((content) => ({ id: randomUUID(), content }))
      await ways[way]!(system, all)
      sent.push(...all)
      for (const { id } of all) accepted.add(id)
    })

    test('read from the saved event', { timeout: 60_000 }, async () => {
      // At least once: after a lease has ended, a content may come again.
      const saved = () =>
        new Map(subscriber.results.map(({ data }) => [data.saved.content.id, data.saved.content.content]))
      await holds(() => expect(saved().size).toBe(sent.length), { timeoutMs: 40_000, intervalMs: 200 })
      expectAll('saved', sent, saved())
    })

    test('read from contents', { timeout: 60_000 }, async () => {
      const rows = await system.client.contents()
      expect(rows).toHaveLength(sent.length)
      expectAll('contents', sent, new Map(rows.map(({ id, content }) => [id, content])))
    })

    test('read from GET /', { timeout: 60_000 }, async () => {
      const got = new Map<string, unknown>()
      let next: string | null = ''
      while (next !== null) {
        const url: string = `${system.url}/?first=100${next && `&after=${encodeURIComponent(next)}`}`
        const page = (await (await fetch(url)).json()) as { results: Sent[]; next: string | null }
        for (const { id, content } of page.results) got.set(id, content)
        next = page.next
      }
      expectAll('GET /', sent, got)
    })

    test('read from content(id), from the receipt, and from GET /receipts/:id', { timeout: 60_000 }, async () => {
      const [content, receipt, rest] = [new Map(), new Map(), new Map()]
      await eachOf(sent, async ({ id }) => {
        const { body } = await system.client.graphql(
          'query ($id: ID!) { content(id: $id) { content } receipt(id: $id) { status ... on ContentReceipt { content { content } } } }',
          { id },
        )
        content.set(id, body.data.content?.content)
        receipt.set(id, body.data.receipt.content?.content)
        rest.set(id, (await system.client.receipt(id)).content?.content)
      })
      expectAll('content(id)', sent, content)
      expectAll('receipt', sent, receipt)
      expectAll('GET /receipts/:id', sent, rest)
    })

    test('read from a dead letter, and from its row after a retry', { timeout: 60_000 }, async () => {
      const unicode = allOfUnicode().filter((_, n) => n % 8 === 0)
      const texts = [...unicode, ...special, ...fc.sample(fuzzed, { numRuns: 40, seed: seed + 1 })]
      const letters = texts.map((content) => ({ id: randomUUID(), content }))
      for (const { id } of letters) accepted.add(id)
      // The id is taken, by something else that the queue has forgotten: a letter with the code ID_CONFLICT.
      await eachOf(chunks(letters, 900_000), async (chunk) => {
        const ids = chunk.map(({ id }) => id)
        await putRows(system.env.DATABASE_URL!, ids, 'was here first')
      })
      await eachOf(chunks(letters, 900_000), (chunk) => saveMany(system, chunk))
      await holds(async () => expect((await system.client.queue()).depth).toBe(0), { timeoutMs: 20_000 })
      expectAll('deadLetters', letters, await deadLetters(system))
      const retried = await system.client.changeDeadLetters('retry', { ids: letters.map(({ id }) => id) })
      expect(retried.count).toBe(letters.length)
      await holds(async () => expect((await system.client.queue()).depth).toBe(0), { timeoutMs: 20_000 })
      expectAll('deadLetters, retried', letters, await deadLetters(system))
    })
  })

  describe('or refuses it, such as', () => {
    const lone = [
      '\ud800',
      '\udfff',
      'a\udbff',
      '\udc00b',
      'a\ud83d b',
      '\ude00\ud83d',
      '\ud83d\ud83d\ude00',
      `${'x'.repeat(60_000)}\ud800`,
    ]
    const refused = { errors: [{ extensions: { code: 'BAD_USER_INPUT' } }] }
    const surrogate = {
      errors: [{ message: expect.stringContaining('lone surrogate'), extensions: { code: 'BAD_USER_INPUT' } }],
    }
    test('a lone surrogate in a variable', async () => {
      for (const content of lone) {
        const { status, body } = await system.client.graphql(
          'mutation ($content: String!) { save(content: $content) { saveId } }',
          { content },
        )
        expect(status).toBe(400)
        expect(body).toMatchObject({ data: { save: null }, ...surrogate })
      }
    })

    test('a lone surrogate in one input of saveMany', async () => {
      for (const content of lone) {
        const inputs = [{ content: 'good' }, { content }, { content: 'good, too' }]
        const { body } = await system.client.graphql(
          'mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId } }',
          { inputs },
        )
        expect(body).toMatchObject({ data: { saveMany: null }, ...surrogate })
        expect(body.errors[0].message).toContain('inputs[1]')
      }
    })

    test('a lone surrogate over REST', async () => {
      for (const content of lone) {
        const response = await fetch(`${system.url}/save`, { method: 'POST', body: JSON.stringify({ content }) })
        expect(response.status).toBe(400)
        expect(await response.json()).toMatchObject(surrogate)
      }
    })

    test('a lone surrogate in a literal, escaped or not, by a syntax error', async () => {
      for (const literal of [
        '"\\ud800"',
        '"\\u{d800}"',
        '"a\\udfffb"',
        '"\\ude00\\ud83d"',
        '"\ud800"',
        '"""\udfff"""',
      ]) {
        const { body } = await system.client.graphql(`mutation { save(content: ${literal}) { saveId } }`)
        expect(body).toEqual({
          errors: [expect.objectContaining({ message: expect.stringMatching(/^Syntax Error: Invalid/) })],
        })
      }
    })

    test('bytes that are not UTF-8', async () => {
      for (const bad of [
        [0xed, 0xa0, 0x80],
        [0xff, 0xfe],
        [0xc0, 0x80],
        [0xf4, 0x90, 0x80, 0x80],
        [0xe2, 0x82],
      ]) {
        const body = Buffer.concat([Buffer.from('{"content":"'), Buffer.from(bad), Buffer.from('"}')])
        const response = await fetch(`${system.url}/save`, { method: 'POST', body })
        expect(response.status).toBe(400)
        expect(await response.json()).toMatchObject(refused)
      }
    })

    test('a content one byte above the limit', async () => {
      for (const content of ['x'.repeat(limit + 1), `${'é'.repeat(limit / 2)}x`, `${'😀'.repeat(limit / 4)}\0`]) {
        const response = await fetch(`${system.url}/save`, { method: 'POST', body: JSON.stringify({ content }) })
        expect(response.status).toBe(400)
        expect(await response.json()).toMatchObject({
          errors: [{ message: expect.stringContaining(String(limit)), extensions: { code: 'BAD_USER_INPUT' } }],
        })
      }
    })

    test('and saves nothing that it refused', async () => {
      await holds(async () => expect((await system.client.queue()).depth).toBe(0))
      expect((await system.client.contents()).filter(({ id }) => !accepted.has(id))).toEqual([])
    })
  })
})

/** id -> content of all of them. */
async function deadLetters({ client }: Spillway): Promise<Map<string, unknown>> {
  return new Map((await client.deadLetters()).map(({ id, content }) => [id, content]))
}
