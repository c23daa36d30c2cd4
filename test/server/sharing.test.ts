/**
 * FC2: only responses of plain columns are shared between clients. The tests add custom fields to Content, as the docs say, before the schema is
 * built; so every module that reads the schema is imported after that.
 */
import { createClient } from 'graphql-ws'
import { SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { builder } from '../../src/graphql/builder.ts'
import { Content } from '../../src/graphql/content.ts'
import { bootInProcess, type InProcess } from '../harness/boot.ts'
import { client, type Json } from '../harness/client.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { SseClient } from '../harness/sse.ts'

let resolved = 0
builder.prismaObjectField(Content, 'viewer', (t) =>
  t.string({ resolve: (_content, _args, { grant }) => grant.subject ?? 'nobody' }),
)
builder.prismaObjectField(Content, 'letters', (t) =>
  t.int({
    extensions: { shared: true },
    resolve: ({ content }) => {
      resolved += 1
      return content.length
    },
  }),
)
const Badge = builder.objectRef<{ owner: string }>('Badge').implement({
  extensions: { scope: 'any' },
  fields: (t) => ({ owner: t.exposeString('owner') }),
})
builder.prismaObjectField(Content, 'badge', (t) =>
  t.field({ type: Badge, resolve: (_content, _args, { grant }) => ({ owner: grant.subject ?? 'nobody' }) }),
)
const Unmarked = builder.objectRef<{ text: string }>('Unmarked').implement({
  fields: (t) => ({ text: t.exposeString('text') }),
})
builder.prismaObjectField(Content, 'unmarked', (t) =>
  t.field({ type: Unmarked, resolve: () => ({ text: 'of a type that does not say what it takes' }) }),
)
builder.prismaObjectField(Content, 'broken', (t) =>
  t.string({
    nullable: true,
    resolve: () => {
      throw new TypeError('SELECT secrets FROM host')
    },
  }),
)

const secret = 'a secret of at least thirty-two bytes'
const people = ['alice', 'bob'] as const

describe('A field that depends on the grant', () => {
  let api: InProcess
  beforeAll(async () => {
    api = await bootInProcess({ AUTH_JWT_SECRET: secret })
    await save('first')
  })
  afterAll(() => api?.stop())

  const token = (subject: string) =>
    new SignJWT({ scope: 'read write', sub: subject })
      .setProtectedHeader({ alg: 'HS256' })
      .setExpirationTime('5m')
      .sign(new TextEncoder().encode(secret))

  async function ask(subject: string, query: string, get = false): Promise<Json> {
    const asker = client(api.url, await token(subject))
    if (!get) return (await asker.graphql(query, {}, { accept: 'application/json' })).body
    const path = `/graphql?query=${encodeURIComponent(query)}`
    return (await asker.fetch(path, { headers: { accept: 'application/json' } })).json()
  }

  const save = async (content: string) => {
    const answer = await ask('saver', `mutation { save(content: "${content}", waitMs: 25000) { status } }`)
    expect(answer).toEqual({ data: { save: { status: 'SAVED' } } })
  }

  test.each([
    ['a field', '{ contents(first: 1) { edges { node { seen: viewer } } } }'],
    [
      'a field in a fragment',
      '{ contents(first: 1) { edges { node { ...F } } } } fragment F on Content { seen: viewer }',
    ],
    ['an object', '{ contents(first: 1) { edges { node { badge { seen: owner } } } } }'],
    ['a field behind a directive', '{ contents(first: 1) { edges { node { seen: viewer @include(if: true) } } } }'],
    ['a field by alias', '{ page: contents(first: 1) { edges { node { id seen: viewer content } } } }'],
  ])('gives each client its own page, selected by %s', async (_how, query) => {
    for (const get of [false, true]) {
      // Often enough to be compiled and cached.
      for (let i = 0; i < 5; i++) {
        for (const subject of people) {
          expect(JSON.stringify(await ask(subject, query, get))).toContain(`"seen":"${subject}"`)
        }
      }
    }
  })

  test.each([
    'subscription { saved { content { seen: viewer } } }',
    'subscription { saved { content { badge { seen: owner } } } }',
  ])('gives each client its own events over SSE and WebSocket: %s', async (query) => {
    const streams = await Promise.all(
      people.map(async (subject) => {
        const authorization = `Bearer ${await token(subject)}`
        return { subject, sse: await SseClient.open(api.url, query, {}, { authorization }) }
      }),
    )
    const sockets = await Promise.all(
      people.map(async (subject) => {
        const results: unknown[] = []
        const client = createClient({
          url: `${api.url.replace('http', 'ws')}/graphql`,
          webSocketImpl: WebSocket,
          connectionParams: { authorization: `Bearer ${await token(subject)}` },
        })
        client.subscribe({ query }, { next: (result) => results.push(result), error() {}, complete() {} })
        // This response comes after the subscription was accepted.
        await new Promise<void>((resolve, reject) =>
          client.subscribe({ query: '{ __typename }' }, { next: () => resolve(), error: reject, complete() {} }),
        )
        return { subject, results, client }
      }),
    )
    await save('an event')
    for (const { subject, sse } of streams) {
      await holds(() => expect(JSON.stringify(sse.results)).toContain(`"seen":"${subject}"`))
      expect(sse.results).toHaveLength(1)
      sse.close()
    }
    for (const { subject, results, client } of sockets) {
      await holds(() => expect(JSON.stringify(results)).toContain(`"seen":"${subject}"`))
      expect(results).toHaveLength(1)
      await client.dispose()
    }
  })

  test('with shared: true is resolved once for all clients', async () => {
    const query = '{ contents(first: 1) { edges { node { letters } } } }'
    for (let i = 0; i < 4; i++) await ask('alice', query)
    const before = resolved
    for (const subject of people) expect((await ask(subject, query)).data.contents.edges).toHaveLength(1)
    expect(resolved).toBe(before)
  })

  test('of a type without a scope needs admin', async () => {
    const query = '{ contents(first: 1) { edges { node { unmarked { text } } } } }'
    for (let i = 0; i < 4; i++) {
      expect((await ask('alice', query)).errors[0].message).toBe(
        'This needs a token with the scope "admin" (for Content.unmarked).',
      )
    }
  })

  test('that fails in an event sends the subscriber a masked error', async () => {
    const query = 'subscription { saved { content { broken } } }'
    const sse = await SseClient.open(api.url, query, {}, { authorization: `Bearer ${await token('alice')}` })
    await save('an event')
    const result = await eventually(() => sse.results[0])
    expect(result.errors[0].message).toBe('Unexpected error.')
    expect(JSON.stringify(result)).not.toContain('secrets')
    sse.close()
  })
})
