/** FC2: only responses of plain columns are shared between clients. The tests give Content fields of its own, as the docs say. */
import { createClient } from 'graphql-ws'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { Context } from '../../src/graphql/builder.ts'
import { claimOf } from '../../src/model/grant.ts'
import * as ours from '../../src/models/index.ts'
import { defineModel } from '../../src/models/prisma.ts'
import { bootInProcess, type InProcess } from '../harness/boot.ts'
import { client, type Json } from '../harness/client.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { quiet } from '../harness/quiet.ts'
import { SseClient } from '../harness/sse.ts'
import { makeTenants, secret, type Tenant, tokenOf } from '../harness/tenants.ts'
import { WsClient } from '../harness/ws.ts'

let resolved = 0
const tenantOf = (_root: unknown, _args: object, { grant }: Context) => claimOf(grant, 'tenant') ?? 'none'
const Content = defineModel('Content', {
  names: { save: 'save', saveMany: 'saveMany', saved: 'saved', savePath: '/save', listPath: '/', flat: true },
  fields: (t, builder) => {
    const Badge = builder.objectRef<{ owner: string }>('Badge').implement({
      extensions: { scope: 'any' },
      fields: (of) => ({ owner: of.exposeString('owner') }),
    })
    const Unmarked = builder.objectRef<{ text: string }>('Unmarked').implement({
      fields: (of) => ({ text: of.exposeString('text') }),
    })
    builder.queryField('tenant', (of) => of.string({ extensions: { scope: 'read' }, resolve: tenantOf }))
    return {
      tenant: t.string({ resolve: tenantOf }),
      viewer: t.string({ resolve: (_content, _args, { grant }) => grant.subject ?? 'nobody' }),
      letters: t.int({
        extensions: { shared: true },
        resolve: ({ content }) => {
          resolved += 1
          return content.length
        },
      }),
      badge: t.field({ type: Badge, resolve: (_content, _args, { grant }) => ({ owner: grant.subject ?? 'nobody' }) }),
      unmarked: t.field({ type: Unmarked, resolve: () => ({ text: 'of a type that does not say what it takes' }) }),
      broken: t.string({
        nullable: true,
        resolve: () => {
          throw new TypeError('SELECT secrets FROM host')
        },
      }),
    }
  },
})

const withFields = { ...ours, models: [Content] }

const people = ['alice', 'bob'] as const

describe('A field that depends on the grant', () => {
  let api: InProcess
  beforeAll(async () => {
    api = await bootInProcess({ AUTH_JWT_SECRET: secret }, quiet(), withFields)
    await save('first')
  })
  afterAll(() => api?.stop())

  const token = (sub: string) => tokenOf({ scope: 'read write', sub })

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

describe('A field that depends on a claim', () => {
  let api: InProcess
  let tenants: Tenant[]
  beforeAll(async () => {
    api = await bootInProcess({ AUTH_JWT_SECRET: secret }, quiet(), withFields)
    // Their tokens differ in nothing else.
    tenants = await makeTenants(api.url)
    await save('first')
  })
  afterAll(() => api?.stop())

  const save = async (content: string) =>
    expect((await tenants[0]!.client.saveAndWait(content)).data.save.status).toBe('SAVED')

  test.each([
    ['a page', '{ contents(first: 1) { edges { node { seen: tenant } } } }'],
    [
      'a page by alias and fragment',
      '{ page: contents(first: 1) { edges { node { ...F } } } } fragment F on Content { content seen: tenant }',
    ],
    ['a page behind a directive', '{ contents(first: 1) { edges { node { seen: tenant @skip(if: false) } } } }'],
    ['a field of Query', '{ seen: tenant }'],
    ['a field of Query beside a page', '{ contents(first: 1) { edges { cursor } } seen: tenant }'],
    ['a receipt', 'mutation { save(id: "ID", content: "of all", waitMs: 20000) { content { seen: tenant } } }'],
  ])('sends each tenant its own value in %s, by the fast path, Yoga, GET and WebSocket', async (_what, written) => {
    const query = written.replace('ID', crypto.randomUUID())
    const sockets = await Promise.all(tenants.map(async (tenant) => ({ ...tenant, ws: await tenant.client.ws() })))
    // Yoga responds the first time, the fast path when the document is compiled, the cache when the page is kept.
    for (let i = 0; i < 5; i++) {
      for (const { name, client, ws } of sockets) {
        const seen = `"seen":"${name}"`
        expect(JSON.stringify((await client.graphql(query)).body)).toContain(seen)
        if (query.startsWith('{')) {
          const got = await client.fetch(`/graphql?query=${encodeURIComponent(query)}`)
          expect(JSON.stringify(await got.json())).toContain(seen)
        }
        ws.subscribe(String(i), query)
        expect(JSON.stringify((await eventually(() => ws.of(String(i))[0])).payload)).toContain(seen)
      }
    }
    for (const { ws } of sockets) ws.close()
  })

  test('sends each tenant its own value at the same time', async () => {
    const query = '{ contents(first: 2) { edges { node { id seen: tenant } } } }'
    for (let i = 0; i < 5; i++) {
      await Promise.all(
        [...tenants, ...tenants].map(async ({ name, client }) => {
          expect(JSON.stringify((await client.graphql(query)).body)).toContain(`"seen":"${name}"`)
        }),
      )
    }
  })

  test.each([
    'subscription { saved { content { seen: tenant } } }',
    'subscription { saved { content { ...F } } } fragment F on Content { content seen: tenant }',
  ])('sends each tenant its own value in every event, over SSE and WebSocket: %s', async (query) => {
    const streams = await Promise.all(
      // Twice, so that a rendering may be shared between the connections of one tenant.
      [...tenants, ...tenants].map(async ({ name, client }) => {
        const [sse, ws] = await Promise.all([client.sse(query), client.ws()])
        for (const id of ['a', 'b']) ws.subscribe(id, query)
        ws.subscribe('after', '{ __typename }')
        // This response comes after the subscriptions were accepted.
        await eventually(() => ws.of('after')[0])
        return { name, sse, ws }
      }),
    )
    for (const content of ['one', 'two']) await save(content)
    for (const { name, sse, ws } of streams) {
      const events = (id: string) => ws.of(id).filter(({ type }) => type === 'next')
      await holds(() => {
        for (const results of [sse.results, events('a'), events('b')]) {
          expect(results).toHaveLength(2)
          for (const result of results) expect(JSON.stringify(result)).toContain(`"seen":"${name}"`)
        }
      })
      sse.close()
      ws.close()
    }
  })

  test('has the claims of the connection_init on all operations of a WebSocket, and others on another WebSocket only', async () => {
    const [acme, globex] = tenants as [Tenant, Tenant]
    const seen = async (ws: WsClient, id: string) => {
      ws.subscribe(id, '{ tenant }')
      return (await eventually(() => ws.of(id)[0])).payload.data.tenant
    }
    const first = await acme.client.ws()
    expect(await seen(first, '1')).toBe('acme')
    // The payload of connection_init has precedence over the header of the upgrade.
    const second = await WsClient.open(api.url, { authorization: `Bearer ${acme.token}` })
    second.send({ type: 'connection_init', payload: { authorization: `Bearer ${globex.token}` } })
    await eventually(() => second.messages[0])
    expect(await seen(second, '1')).toBe('globex')
    expect(await seen(first, '2')).toBe('acme')
    // The protocol has no way to renew a token: a second connection_init closes the socket.
    first.send({ type: 'connection_init', payload: { authorization: `Bearer ${globex.token}` } })
    expect(await first.closed).toBe(4429)
    expect(await seen(second, '2')).toBe('globex')
    second.close()
  })

  test('is a claim only if it is a text or a number', async () => {
    const seen = async (tenant: unknown) =>
      (await client(api.url, await tokenOf({ tenant })).graphql('{ tenant }')).data.tenant
    expect(await seen(42)).toBe('42')
    for (const tenant of [undefined, null, '', ['acme'], { name: 'acme' }, true])
      expect(await seen(tenant)).toBe('none')
  })
})

describe('A field that depends on a claim, without authentication', () => {
  test.each([
    [{}, 'none'],
    [{ AUTH_DEV_CLAIMS: '{"sub":"dev","tenant":"acme"}' }, 'acme'],
  ])('with %j sees the tenant %s, over HTTP, SSE and WebSocket', async (env, name) => {
    const api = await bootInProcess(env, quiet(), withFields)
    try {
      const query = 'subscription { saved { content { seen: tenant } } }'
      const [sse, ws] = await Promise.all([api.client.sse(query), api.client.ws()])
      ws.subscribe('events', query)
      ws.subscribe('query', '{ seen: tenant }')
      await holds(() => expect(JSON.stringify(ws.of('query'))).toContain(`"seen":"${name}"`))
      for (let i = 0; i < 3; i++) expect((await api.client.graphql('{ tenant }')).data).toEqual({ tenant: name })
      await api.client.saveAndWait('an event')
      await holds(() => expect(JSON.stringify(sse.results)).toContain(`"seen":"${name}"`))
      await holds(() => expect(JSON.stringify(ws.of('events'))).toContain(`"seen":"${name}"`))
      // A client's token is not read.
      const forged = client(api.url, await tokenOf({ tenant: 'globex' }))
      expect((await forged.graphql('{ tenant }')).data).toEqual({ tenant: name })
      sse.close()
      ws.close()
    } finally {
      await api.stop()
    }
  })
})
