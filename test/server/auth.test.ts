/** Scopes (P10) of every field, route, metric and stream. The tests walk the schema, so that a new field cannot be left out. */

import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type GraphQLField,
  GraphQLList,
  type GraphQLNamedType,
  GraphQLNonNull,
  type GraphQLOutputType,
  type GraphQLType,
  getNamedType,
  isEnumType,
  isInterfaceType,
  isLeafType,
  isObjectType,
} from 'graphql'
import { createClient } from 'graphql-ws'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { readConfig } from '../../src/config.ts'
import { makeSchema } from '../../src/graphql/schema.ts'
import { type Running, startApi } from '../../src/start.ts'
import { bootInProcess, type InProcess } from '../harness/boot.ts'
import { client, type Json } from '../harness/client.ts'
import { given, models } from '../harness/contents.ts'
import { holds } from '../harness/eventually.ts'
import { quiet, recorded } from '../harness/quiet.ts'
import { SseClient } from '../harness/sse.ts'
import { type Signing, secret, tokenOf } from '../harness/tenants.ts'

const audience = 'spillway'
const schema = makeSchema(models, given.prisma)

/** The scope of each root field. The walk below fails for a field without an entry, so that every new field gets one. */
const needs: Record<string, string> = {
  'Query.contents': 'read',
  'Query.content': 'read',
  'Query.node': 'read',
  'Query.receipt': 'read',
  'Query.receipts': 'read',
  'Query.queue': 'admin',
  'Query.deadLetters': 'admin',
  'Query.saveLookup': 'admin',
  'Query.queueConditions': 'admin',
  'Query.queueWorkers': 'admin',
  'Query.queueHistory': 'admin',
  'Mutation.save': 'write',
  'Mutation.saveMany': 'write',
  'Mutation.retryDeadLetters': 'admin',
  'Mutation.discardDeadLetters': 'admin',
  'Mutation.editDeadLetter': 'admin',
  'Mutation.pausePersisting': 'admin',
  'Mutation.resumePersisting': 'admin',
  'Subscription.saved': 'read',
  'Subscription.deadLettered': 'admin',
  'Subscription.receipt': 'read',
  'Subscription.receipts': 'read',
  'Subscription.queue': 'admin',
}

/** The scope of each type, in addition to that of the root field. The walk fails for a type without an entry, too. */
const shows: Record<string, string | undefined> = {
  Content: 'read',
  ContentConnection: 'read',
  ContentEdge: 'read',
  ContentSaved: 'read',
  DeadLetter: 'admin',
  DeadLetterChange: 'admin',
  DeadLetterConnection: 'admin',
  DeadLetterEdge: 'admin',
  DeadLettered: 'admin',
  DeadLetterCodeCount: 'admin',
  DeadLetterModelCount: 'admin',
  Queue: 'admin',
  SaveLookup: 'admin',
  QueueCondition: 'admin',
  QueueWorker: 'admin',
  QueueWorkerError: 'admin',
  QueueWorkerHeld: 'admin',
  QueuePause: 'admin',
  QueueHistory: 'admin',
  QueueHistoryPoint: 'admin',
  QueueDurations: 'admin',
  ContentReceipt: undefined,
  Failure: undefined,
  PageInfo: undefined,
}

const scopes = ['read', 'write', 'admin']

const token = (claims: Record<string, unknown> = {}, signing?: Signing) =>
  tokenOf({ aud: audience, ...claims }, signing)

/** An operation that selects one root field with valid arguments. */
function operation(
  kind: string,
  { name, args, type }: GraphQLField<unknown, unknown>,
  inside = selection(type),
): string {
  const given = args
    .filter((arg) => arg.type instanceof GraphQLNonNull)
    .map((arg) => `${arg.name}: ${literal(arg.type)}`)
  return `${kind.toLowerCase()} { ${name}${given.length > 0 ? `(${given.join(', ')})` : ''} ${inside} }`
}

interface Path {
  fields: string[]
  /** The object types on the path. */
  types: string[]
}

/** The shortest path to each field of each type below a field. */
function pathsBelow(type: GraphQLOutputType): Path[] {
  const found: Path[] = []
  const known = new Set<string>()
  const open: { type: GraphQLNamedType; path: Path }[] = [{ type: getNamedType(type), path: { fields: [], types: [] } }]
  for (let next = open.shift(); next; next = open.shift()) {
    if (known.has(next.type.name)) continue
    known.add(next.type.name)
    if (isInterfaceType(next.type)) {
      for (const type of schema.getPossibleTypes(next.type))
        open.push({ type, path: { ...next.path, fields: [...next.path.fields, `... on ${type.name}`] } })
    }
    if (!isObjectType(next.type)) continue
    for (const field of Object.values(next.type.getFields())) {
      const path = { fields: [...next.path.fields, field.name], types: [...next.path.types, next.type.name] }
      found.push(path)
      open.push({ type: getNamedType(field.type), path })
    }
  }
  return found
}

const select = (fields: readonly string[], last: string) =>
  fields.reduceRight((inside, field) => `{ ${field} ${inside} }`, last)

function literal(type: GraphQLType): string {
  if (type instanceof GraphQLNonNull) return literal(type.ofType)
  if (type instanceof GraphQLList) return '[]'
  if (isEnumType(type)) return type.getValues()[0]!.name
  return String(type) === 'Int' ? '1' : '"00000000-0000-7000-8000-000000000000"'
}

function selection(type: GraphQLOutputType): string {
  let named: GraphQLType = type
  while (named instanceof GraphQLNonNull || named instanceof GraphQLList) named = named.ofType
  return isLeafType(named) ? '' : '{ __typename }'
}

describe('The API with AUTH_JWT_SECRET', () => {
  let api: InProcess

  beforeAll(async () => {
    api = await bootInProcess({ AUTH_JWT_SECRET: secret, AUTH_AUDIENCE: audience })
  })
  afterAll(() => api?.stop())

  const graphql = (query: string, bearer: string | undefined, accept = 'application/json') =>
    client(api.url, bearer).graphql(query, {}, { accept })

  const roots = [schema.getQueryType()!, schema.getMutationType()!, schema.getSubscriptionType()!].flatMap((type) =>
    Object.values(type.getFields()).map((field) => ({ name: `${type.name}.${field.name}`, kind: type.name, field })),
  )

  test('has a scope for every root field', () => {
    expect(roots.map(({ name }) => name).sort()).toEqual(Object.keys(needs).sort())
    expect(isInterfaceType(schema.getType('Receipt'))).toBe(true)
  })

  test.each(roots.filter(({ kind }) => kind !== 'Subscription'))(
    'serves $name with its scope only',
    async ({ name, kind, field }) => {
      const query = operation(kind, field)
      for (const scope of [...scopes, '', 'nonsense']) {
        // Sent several times, because the fast path must be as strict as Yoga.
        const bearer = await token({ scope })
        for (let i = 0; i < 4; i++) {
          const { status, body } = await graphql(query, bearer)
          const codes = body.errors?.map(({ extensions }: Json) => extensions?.code)
          if (scope === needs[name]) expect(codes ?? []).not.toContain('FORBIDDEN')
          else expect({ scope, codes }).toEqual({ scope, codes: ['FORBIDDEN'] })
          if (scope !== needs[name] && !/\?$/.test(String(field.type))) expect([200, 403]).toContain(status)
        }
      }
      expect(await graphql(query, undefined)).toMatchObject({
        status: 401,
        body: { errors: [{ extensions: { code: 'UNAUTHENTICATED' } }] },
      })
    },
  )

  test.each(roots.filter(({ kind }) => kind === 'Subscription'))(
    'serves $name with its scope only, over SSE and WebSocket',
    async ({ name, kind, field }) => {
      const query = operation(kind, field)
      for (const scope of scopes) {
        const bearer = await token({ scope })
        const allowed = scope === needs[name]
        const sse = await SseClient.open(api.url, query, {}, { authorization: `Bearer ${bearer}` })
        if (allowed) expect(sse.status).toBe(200)
        else await holds(() => expect(JSON.stringify(sse.results)).toContain('FORBIDDEN'))
        if (allowed) expect(JSON.stringify(sse.results)).not.toContain('FORBIDDEN')
        sse.close()
        const answer = await overWebSocket(query, bearer, allowed)
        expect(answer.includes('FORBIDDEN')).toBe(!allowed)
      }
      const anonymous = await fetch(`${api.url}/graphql`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
        body: JSON.stringify({ query }),
      })
      expect(anonymous.status).toBe(401)
      await expect(overWebSocket(query, undefined, false)).rejects.toThrow(/4403/)
    },
  )

  test.each(roots)('serves each field below $name with the scopes of its types only', async (root) => {
    const { name, kind, field } = root
    for (const { fields, types } of pathsBelow(field.type)) {
      const type = types.at(-1)!
      expect(Object.keys(shows), `${type} is not in the table above`).toContain(type)
      const owner = schema.getType(type)
      const leads = getNamedType((isObjectType(owner) && owner.getFields()[fields.at(-1)!]!.type) || field.type)
      if (isObjectType(leads)) types.push(leads.name)
      const query = operation(kind, field, select(fields, isLeafType(leads) ? '' : '{ __typename }'))
      const needed = new Set([needs[name]!, ...types.flatMap((on) => shows[on] ?? [])])
      for (const held of [...scopes.map((scope) => [scope]), [...needed]]) {
        const allowed = [...needed].every((scope) => held.includes(scope))
        const bearer = await token({ scope: held.join(' ') })
        if (kind === 'Subscription') {
          const answer = await overWebSocket(query, bearer, allowed)
          expect({ query, held, forbidden: answer.includes('FORBIDDEN') }).toEqual({ query, held, forbidden: !allowed })
          continue
        }
        // Sent several times, because the fast path must be as strict as Yoga.
        for (let i = 0; i < 3; i++) {
          const codes =
            (await graphql(query, bearer)).body.errors?.map(({ extensions }: Json) => extensions?.code) ?? []
          expect({ query, held, forbidden: codes.includes('FORBIDDEN') }).toEqual({ query, held, forbidden: !allowed })
        }
      }
    }
  })

  test.each([
    ['plainly', 'SAVE { status content { content } }'],
    ['under other names', 'SAVE { a: status b: content { c: content } }'],
    ['in a fragment', 'SAVE { ...F } FRAGMENT'],
    ['in a fragment on the root', '...M } fragment M on Mutation { SAVE { content { content } }'],
    ['in an inline fragment', 'SAVE { ... { content { ... on Content { content } } } }'],
    ['behind a directive', 'SAVE { status content @include(if: $yes) { content } }'],
    ['behind a directive that hides it', 'SAVE { status content @skip(if: true) { content } }'],
  ])('does not show a content to a token that may only write, asked for %s (FC1)', async (_how, selection) => {
    const secret = `secret-${Math.random()}`
    const id = crypto.randomUUID()
    const owner = await token()
    const save = (text: string) => `save(id: "${id}", content: "${text}", waitMs: 8000)`
    const saved = await graphql(`mutation { ${save(secret)} { status } }`, owner)
    expect(saved.body).toEqual({ data: { save: { status: 'SAVED' } } })
    const writer = await token({ scope: 'write' })
    const variables = selection.includes('$yes') ? '($yes: Boolean = true)' : ''
    for (const guess of ['a guess', secret]) {
      const body = `mutation ${variables} { ${selection.replace('SAVE', save(guess))} }`.replace(
        ' FRAGMENT }',
        ' } fragment F on ContentReceipt { content { content } }',
      )
      for (let i = 0; i < 3; i++) {
        const { body: answer } = await graphql(body, writer)
        expect(answer, body).toEqual({
          errors: [
            {
              message: 'This needs a token with the scope "read" (for ContentReceipt.content).',
              extensions: expect.objectContaining({ code: 'FORBIDDEN' }),
            },
          ],
        })
      }
      expect(await overWebSocket(body, writer, false)).toContain('FORBIDDEN')
    }
    // A writer may read the state of the save.
    const receipt = await graphql(`mutation { ${save(secret)} { status duplicate acceptedAt } }`, writer)
    expect(receipt.body).toMatchObject({ data: { save: { status: 'SAVED', duplicate: true } } })
  })

  /** The first response; '' if the subscription was accepted and has no event yet. */
  function overWebSocket(query: string, bearer: string | undefined, quietIsFine: boolean): Promise<string> {
    const client = createClient({
      url: `${api.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      retryAttempts: 0,
      ...(bearer ? { connectionParams: { authorization: `Bearer ${bearer}` } } : {}),
    })
    return new Promise<string>((resolve, reject) => {
      client.subscribe(
        { query },
        {
          next: (result) => resolve(JSON.stringify(result)),
          error: (error) =>
            Array.isArray(error)
              ? resolve(JSON.stringify(error))
              : reject(new Error(`closed with ${(error as CloseEvent).code}`)),
          complete: () => resolve(''),
        },
      )
      // The response to a query on the same socket comes after the subscription was accepted or refused.
      if (quietIsFine)
        client.subscribe({ query: '{ __typename }' }, { next: () => resolve(''), error: reject, complete() {} })
    }).finally(() => client.dispose())
  }

  test.each([
    ['POST', '/save', 'write'],
    ['GET', '/', 'read'],
    ['GET', '/receipts/00000000-0000-7000-8000-000000000000', 'read'],
    ['GET', '/metrics', 'admin'],
  ])('serves %s %s with the scope %s only', async (method, path, scope) => {
    const send = async (bearer?: string) =>
      (
        await fetch(`${api.url}${path}`, {
          method,
          headers: bearer ? { authorization: `Bearer ${bearer}` } : {},
          ...(method === 'POST' ? { body: '{"content":"x"}' } : {}),
        })
      ).status
    for (const other of scopes) {
      const status = await send(await token({ scope: other }))
      if (other === scope) expect([200, 202, 404]).toContain(status)
      else expect(status).toBe(403)
    }
    expect(await send()).toBe(401)
  })

  test('serves /livez and /readyz without a token', async () => {
    for (const path of ['/livez', '/readyz']) expect((await fetch(`${api.url}${path}`)).status).toBe(200)
  })

  describe('refuses a token', () => {
    const unsigned = (header: object, payload: object) =>
      `${[header, payload].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')}.`
    const soon = Math.floor(Date.now() / 1_000) + 300
    test.each<[string, () => Promise<string> | string]>([
      ['of no algorithm', () => unsigned({ alg: 'none' }, { sub: 'x', exp: soon, aud: audience, scope: 'read' })],
      ['of another key', () => token({}, { key: 'another secret of at least thirty-two bytes' })],
      ['of another algorithm', () => token({}, { alg: 'HS512' })],
      ['that has expired', () => token({}, { expires: Math.floor(Date.now() / 1_000) - 60 })],
      [
        'that never expires',
        () =>
          new SignJWT({ sub: 'x', aud: audience, scope: 'read' })
            .setProtectedHeader({ alg: 'HS256' })
            .sign(new TextEncoder().encode(secret)),
      ],
      ['without a subject', () => token({ sub: undefined })],
      ['of an empty subject', () => token({ sub: '' })],
      ['of a blank subject', () => token({ sub: ' ' })],
      ['of a subject that is a number', () => token({ sub: 5 as unknown as string })],
      ['of a subject that is a list', () => token({ sub: ['x'] as unknown as string })],
      ['that is not valid yet', () => token({ nbf: soon })],
      ['for another audience', () => token({ aud: 'another service' })],
      [
        'with a key id that is a path',
        () => unsigned({ alg: 'HS256', kid: '../../../dev/null' }, { sub: 'x', exp: soon, aud: audience }),
      ],
      ['that is huge', () => 'x'.repeat(9_000)],
      ['that is nonsense', () => 'nonsense'],
    ])('%s', async (_what, make) => {
      const answer = await graphql('{ contents { edges { cursor } } }', await make())
      expect(answer).toMatchObject({ status: 401, body: { errors: [{ extensions: { code: 'UNAUTHENTICATED' } }] } })
      expect(answer.headers.get('www-authenticate')).toBe('Bearer')
    })
  })

  test('accepts scopes as a list', async () => {
    expect(
      (await graphql('{ contents { edges { cursor } } }', await token({ scope: undefined, scopes: ['read'] }))).body
        .errors,
    ).toBeUndefined()
  })

  test('ends a stream when its token expires', async () => {
    // The token expired almost 30 s ago, the leeway for clocks that differ.
    const bearer = await token({}, { expires: Math.floor(Date.now() / 1_000) - 28 })
    const sse = await SseClient.open(
      api.url,
      'subscription { saved { cursor } }',
      {},
      { authorization: `Bearer ${bearer}` },
    )
    expect(sse.status).toBe(200)
    await sse.ended
    expect((await graphql('{ contents { edges { cursor } } }', bearer)).status).toBe(401)
  })
})

describe('The API with AUTH_JWKS_URL', () => {
  let keys: Server
  let dir: string
  let api: Running & { url: string }
  let sign: (alg: string) => Promise<string>

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'spillway-jwks-'))
    const pairs = {
      RS256: await generateKeyPair('RS256'),
      ES256: await generateKeyPair('ES256'),
      EdDSA: await generateKeyPair('EdDSA'),
    }
    const published = await Promise.all(
      Object.entries(pairs).map(async ([alg, { publicKey }]) => ({
        ...(await exportJWK(publicKey)),
        alg,
        kid: alg,
        use: 'sig',
      })),
    )
    keys = createServer((_request, response) => response.end(JSON.stringify({ keys: published })))
    await new Promise<void>((resolve) => keys.listen(0, '127.0.0.1', resolve))
    const urls = { DATABASE_URL: `file:${dir}/store.db`, QUEUE_URL: `file:${dir}/queue.db` }
    const jwks = `http://127.0.0.1:${(keys.address() as AddressInfo).port}/keys`
    api = await startApi(
      readConfig(
        { PORT: '0', ...urls, AUTH_JWKS_URL: jwks, AUTH_AUDIENCE: audience, AUTH_ISSUER: 'https://issuer.example' },
        {},
      ),
      given,
      quiet(),
    )
    sign = (alg) =>
      new SignJWT({ scope: 'read', sub: 'somebody', aud: audience, iss: 'https://issuer.example' })
        .setProtectedHeader({ alg, kid: alg })
        .setExpirationTime('5m')
        .sign(pairs[alg as 'RS256'].privateKey)
  })
  afterAll(async () => {
    await api?.close()
    await new Promise((resolve) => keys.close(resolve))
    await rm(dir, { recursive: true, force: true })
  })

  test.each(['RS256', 'ES256', 'EdDSA'])('accepts a token signed with %s', async (alg) => {
    expect((await fetch(api.url, { headers: { authorization: `Bearer ${await sign(alg)}` } })).status).toBe(200)
  })

  test('does not accept a public key as a secret', async () => {
    const forged = await new SignJWT({ scope: 'read', sub: 'x', aud: audience, iss: 'https://issuer.example' })
      .setProtectedHeader({ alg: 'HS256', kid: 'RS256' })
      .setExpirationTime('5m')
      .sign(new TextEncoder().encode('a public key, published to everybody'))
    expect((await fetch(api.url, { headers: { authorization: `Bearer ${forged}` } })).status).toBe(401)
  })

  describe('with keys that change', () => {
    type Pair = Awaited<ReturnType<typeof generateKeyPair>>
    let issuer: Server
    /** The published key set; a number is a status. */
    let published: unknown[] | number
    let one: Pair
    let two: Pair
    let changing: Running & { url: string }
    const recheckMs = 400
    const log = recorded()

    beforeAll(async () => {
      one = await generateKeyPair('RS256')
      two = await generateKeyPair('RS256')
      published = []
      issuer = createServer((_request, response) => {
        if (typeof published === 'number') response.writeHead(published).end('no keys today')
        else response.end(JSON.stringify({ keys: published }))
      })
      await new Promise<void>((resolve) => issuer.listen(0, '127.0.0.1', resolve))
      const jwks = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/keys`
      const files = { DATABASE_URL: `file:${dir}/store-2.db`, QUEUE_URL: `file:${dir}/queue-2.db` }
      const config = readConfig({ PORT: '0', ...files, AUTH_JWKS_URL: jwks, AUTH_AUDIENCE: audience }, {})
      const times = { recheckMs, keysGraceMs: 4_000 }
      changing = await startApi({ ...config, auth: { ...config.auth, ...times } }, given, log)
    })
    afterAll(async () => {
      await changing?.close()
      await new Promise((resolve) => issuer.close(resolve))
    })

    const publish = async (...pairs: Pair[]) => {
      published = await Promise.all(
        pairs.map(async ({ publicKey }) => ({
          ...(await exportJWK(publicKey)),
          alg: 'RS256',
          kid: 'same',
          use: 'sig',
        })),
      )
    }
    const signed = ({ privateKey }: Pair) =>
      new SignJWT({ scope: 'read', sub: 'somebody', aud: audience })
        .setProtectedHeader({ alg: 'RS256', kid: 'same' })
        .setExpirationTime('5m')
        .sign(privateKey)
    const status = async (bearer: string) =>
      (await fetch(changing.url, { headers: { authorization: `Bearer ${bearer}`, accept: 'application/json' } })).status

    test('accepts tokens of both keys that share an id (FC12)', async () => {
      await publish(one, two)
      for (const pair of [one, two]) await holds(async () => expect(await status(await signed(pair))).toBe(200))
      expect(await status(await signed(await generateKeyPair('RS256')))).toBe(401)
    })

    test('skips members of the key set that are no keys, and logs their number once', async () => {
      await publish(one)
      published = [null, ...(published as unknown[]), 'junk', 5, [], {}, { kty: 5, kid: 'same' }]
      // The set is read again only when a request has a token.
      await holds(async () => {
        expect(await status(await signed(one))).toBe(200)
        const lines = log.entries.filter(({ message }) => message.includes('skipped'))
        expect(lines).toMatchObject([{ level: 'warn', fields: { skipped: 6, used: 1 } }])
      })
    })

    test('refuses a cached token, and ends its streams, after its key was removed (FC11)', async () => {
      await publish(one, two)
      const bearer = await signed(one)
      await holds(async () => expect(await status(bearer)).toBe(200))
      const authorization = `Bearer ${bearer}`
      const streams = [
        await SseClient.open(changing.url, 'subscription { saved { cursor } }', {}, { authorization }),
        // Yoga serves this subscription.
        await SseClient.open(
          changing.url,
          `subscription { receipt(id: "${crypto.randomUUID()}") { status } }`,
          {},
          { authorization },
        ),
        await SseClient.open(
          changing.url,
          'subscription { ...F } fragment F on Subscription { saved { cursor } }',
          {},
          { authorization, accept: '*/*' },
        ),
      ]
      const client = createClient({
        url: `${changing.url.replace('http', 'ws')}/graphql`,
        webSocketImpl: WebSocket,
        retryAttempts: 0,
        lazy: false,
        onNonLazyError: () => {},
        connectionParams: { authorization },
      })
      const closed = new Promise<number>((resolve) =>
        client.on('closed', (event) => resolve((event as CloseEvent).code)),
      )
      await new Promise<void>((resolve) => client.on('connected', () => resolve()))
      await publish(two)
      await holds(async () => expect(await status(bearer)).toBe(401), { timeoutMs: 20_000 })
      await Promise.all([streams[0]!.ended, streams[2]!.ended])
      expect(await closed).toBe(4401)
      for (const stream of streams) stream.close()
      expect(await status(await signed(two))).toBe(200)
    })

    test('uses the last keys while none can be read, up to a bound (FC11)', async () => {
      await publish(one)
      const bearer = await signed(one)
      await holds(async () => expect(await status(bearer)).toBe(200))
      const since = performance.now()
      published = 500
      // The token is verified again several times; then a new token is verified.
      while (performance.now() - since < recheckMs * 4) expect(await status(bearer)).toBe(200)
      expect(await status(await signed(one))).toBe(200)
      await holds(async () => expect(await status(bearer)).toBe(401), { timeoutMs: 20_000 })
      await publish(one)
      await holds(async () => expect(await status(bearer)).toBe(200))
    })
  })
})
