/**
 * The same subscription, written and sent in generated ways (test/harness/ways.ts). Every way gets the same events and ids, and behaves alike
 * on resume, on errors, when the token expires, and when the server stops.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { formatCursor, type KnownEvent } from '../../src/events/events.ts'
import { Content, contentRow } from '../harness/contents.ts'
import { holds } from '../harness/eventually.ts'
import { secret, tokenOf } from '../harness/tenants.ts'
import { serveTwoWays, type TwoWays } from '../harness/two-ways.ts'
import {
  type Asked,
  openStream,
  type Stream,
  type Transport,
  transports,
  type Written,
  written,
} from '../harness/ways.ts'

const asked = (after?: string): Asked => ({
  kind: 'subscription',
  field: 'saved',
  argument: after === undefined ? undefined : { name: 'after', type: 'String', value: after },
  type: 'ContentSaved',
  selection: ['cursor', 'content { id content }'],
})
/** The longest query string to send; Node accepts 16 KB. */
const urlLength = 8_000

/** Generated ways; a document too long for a query string is sent by POST or WebSocket. */
function ways(after?: string): fc.Arbitrary<[Written, Transport]> {
  return fc
    .tuple(written(asked(after)), transports)
    .filter(([{ query }, { wire }]) => wire !== 'GET' || query.length < urlLength)
}

let served: TwoWays
let start: string
let events: { saved: { cursor: string; content: { id: string; content: string } } }[]

async function tail(): Promise<string> {
  return formatCursor({ position: await served.events.tail(), index: 0 })
}

beforeAll(async () => {
  served = await serveTwoWays()
  start = await tail()
  const eventOf = (n: number): KnownEvent => ({
    type: 'saved',
    model: Content,
    row: contentRow(`content ${n} "é" 🙂`, { id: `00000000-0000-7000-8000-00000000000${n}` }),
  })
  await served.events.append([[1, 2].map(eventOf), [3, 4].map(eventOf)])
  const plain = 'subscription ($after: String) { saved(after: $after) { cursor content { id content } } }'
  const stream = await openStream(
    served.plain,
    { query: plain, variables: { after: start } },
    { wire: 'POST', accept: 'text/event-stream', extra: {} },
  )
  await holds(() => expect(stream.results()).toHaveLength(4))
  events = stream.results().map(({ data }) => ({ saved: data }))
  stream.close()
})
afterAll(() => served?.close())

const saved = () => events.map(({ saved }) => saved)

async function check(way: [Written, Transport], expected: unknown[], lastEventId?: string): Promise<void> {
  const [what, transport] = way
  for (const url of [served.fast, served.plain]) {
    const stream = await openStream(url, what, transport, lastEventId === undefined ? {} : { lastEventId })
    try {
      await holds(() => expect(stream.results()).toEqual(expected))
      if (transport.wire !== 'WebSocket')
        expect(stream.ids().slice(1)).toEqual(
          saved()
            .slice(-expected.length)
            .map(({ cursor }) => cursor),
        )
    } finally {
      stream.close()
    }
  }
}

test('A subscription sends the same events with the same ids however it is written', async () => {
  await fc.assert(
    fc.asyncProperty(ways(start), (way) =>
      check(
        way,
        saved().map((data) => ({ data })),
      ),
    ),
    { numRuns: 80, endOnFailure: true },
  )
}, 60_000)

test('A subscription resumes after Last-Event-ID, and after the cursor of its argument, however it is written', async () => {
  const rest = saved()
    .slice(1)
    .map((data) => ({ data }))
  const { cursor } = saved()[0]!
  await fc.assert(
    fc.asyncProperty(ways(cursor), (way) => check(way, rest)),
    { numRuns: 30, endOnFailure: true },
  )
  const http = fc.oneof(ways(), ways(start)).filter(([, { wire }]) => wire !== 'WebSocket')
  await fc.assert(
    fc.asyncProperty(http, (way) => check(way, rest, cursor)),
    { numRuns: 40, endOnFailure: true },
  )
}, 60_000)

test.each([
  ['a cursor of another log', 'CURSOR_EXPIRED', 'elsewhere.00000000000001.000000.000000'],
  ['a text that is no cursor', 'BAD_USER_INPUT', 'yesterday'],
])(
  'A subscription refuses %s with %s however it is written',
  async (_what, code, after) => {
    await fc.assert(
      fc.asyncProperty(ways(after), async ([what, transport]) => {
        const stream = await openStream(served.fast, what, transport)
        await holds(() => expect(stream.results()).toMatchObject([{ errors: [{ extensions: { code } }] }]))
        if (transport.wire !== 'WebSocket') {
          await stream.ended
          expect({ status: stream.status, ids: stream.ids(), complete: stream.completed() }).toEqual({
            status: 200,
            ids: [''],
            complete: true,
          })
        }
        stream.close()
      }),
      { numRuns: 30, endOnFailure: true },
    )
  },
  60_000,
)

test('A subscription returns the errors of its variables however it is written', async () => {
  await fc.assert(
    fc.asyncProperty(ways(start), async ([what, transport]) => {
      const stream = await openStream(served.fast, { ...what, variables: { ...what.variables, v: ['x'] } }, transport)
      if ('v' in what.variables) {
        await holds(() =>
          expect(stream.results()).toMatchObject([
            {
              errors: [
                {
                  message: 'Variable "$v" got invalid value: String cannot represent a list.',
                  extensions: { code: 'BAD_USER_INPUT' },
                },
              ],
            },
          ]),
        )
        if (transport.wire !== 'WebSocket') {
          await stream.ended
          expect({ status: stream.status, complete: stream.completed() }).toEqual({ status: 200, complete: true })
        }
      }
      stream.close()
    }),
    { numRuns: 30, endOnFailure: true },
  )
}, 60_000)

test.each(['application/json', 'text/event-stream;q=0, */*', 'multipart/mixed', 'application/graphql-response+json'])(
  'A subscription gets 406 for Accept: %s however it is written',
  async (accept) => {
    await fc.assert(
      fc.asyncProperty(written(asked(start)), async (what) => {
        const stream = await openStream(served.fast, what, { wire: 'POST', accept, extra: {} })
        stream.close()
        expect(stream.status).toBe(406)
      }),
      { numRuns: 20, endOnFailure: true },
    )
  },
)

test.each(['saved @skip(if: true) { cursor }', 'queue @include(if: false) { depth }'])(
  'A subscription of %s selects nothing, and is refused with BAD_USER_INPUT',
  async (field) => {
    for (const url of [served.fast, served.plain]) {
      for (const wire of ['POST', 'WebSocket'] as const) {
        const what = { query: `subscription { ${field} }`, variables: {} }
        const stream = await openStream(url, what, { wire, accept: 'text/event-stream', extra: {} })
        const message = 'the subscription selects no field: @skip or @include leaves out all of them'
        const errors = [{ message, extensions: { code: 'BAD_USER_INPUT' } }]
        await holds(() => expect(stream.results()).toEqual([{ errors }]))
        stream.close()
      }
    }
  },
)

/** Opens streams in several ways at once: of `saved`, and of a subscription that is no feed. */
async function openAll(url: string, authorization?: string): Promise<Stream[]> {
  const queue: Asked = {
    kind: 'subscription',
    field: 'queue',
    argument: undefined,
    type: 'Queue',
    selection: ['depth', 'capacity'],
  }
  const all = [
    ...fc.sample(ways(), 60),
    ...fc.sample(
      fc
        .tuple(written(queue), transports)
        .filter(([{ query }, { wire }]) => wire !== 'GET' || query.length < urlLength),
      30,
    ),
  ]
  return await Promise.all(
    all.map(([what, transport]) => openStream(url, what, transport, authorization ? { authorization } : {})),
  )
}

async function expectEnds(streams: readonly Stream[]): Promise<void> {
  await Promise.all(streams.map(({ ended }) => ended))
  for (const stream of streams) {
    expect(stream.status).toBe(200)
    expect(stream.completed()).toBe(false)
    expect(JSON.stringify(stream.results())).not.toContain('errors')
  }
}

describe('A server that stops', () => {
  test('ends every stream without complete', async () => {
    const stopping = await serveTwoWays()
    const streams = await openAll(stopping.fast)
    await holds(() => expect(streams.filter((stream) => stream.results().length > 0)).toHaveLength(30))
    await stopping.close()
    await expectEnds(streams)
  }, 30_000)
})

describe('A token that expires', () => {
  test('ends every stream that was opened with it, without complete', async () => {
    const guarded = await serveTwoWays({ auth: { secret } })
    try {
      // The leeway for clocks that differ, 30 s, is spent but for some seconds.
      const bearer = await tokenOf({ scope: 'read admin' }, { expires: Math.floor(Date.now() / 1_000) - 24 })
      await expectEnds(await openAll(guarded.fast, `Bearer ${bearer}`))
    } finally {
      await guarded.close()
    }
  }, 30_000)
})
