/** Spillway as a subschema of a Yoga server that has a schema of its own: startSubschema, as examples/inside-yoga uses it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stitchSchemas } from '@graphql-tools/stitch'
import { createSchema, createYoga } from 'graphql-yoga'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { type Running, startSubschema, startWorker } from '../../src/start.ts'
import type { Json } from '../harness/client.ts'
import { given } from '../harness/contents.ts'
import { freshDatabase, freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'

const own = createSchema<{ user: string | null; prisma: string }>({
  typeDefs: 'type Query { me: String, prisma: String! }',
  resolvers: { Query: { me: (_root, _args, { user }) => user, prisma: (_root, _args, { prisma }) => prisma } },
})

const settings = {
  embedded: async (dir: string) => ({ DATABASE_URL: `file:${dir}/store.db`, QUEUE_URL: `file:${dir}/queue.db` }),
  'redis + mariadb': async () => ({ DATABASE_URL: (await freshDatabase()).url, QUEUE_URL: freshRedisUrl() }),
}

describe.each(Object.entries(settings))('A Yoga server with Spillway as a subschema (%s)', (setUp, settingsIn) => {
  let dir: string
  let yoga: ReturnType<typeof createYoga>
  let spillway: Awaited<ReturnType<typeof startSubschema>>
  let worker: Running | undefined

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'spillway-subschema-'))
    const config = readConfig(await settingsIn(dir), {})
    if (setUp !== 'embedded') worker = await startWorker(config, given, quiet())
    spillway = await startSubschema(config, given, {
      log: quiet(),
      access(context) {
        const { user } = context as { user: string | null }
        if (user === null) throw new Error('secret reason')
        return { scopes: user === 'reader' ? ['read'] : ['read', 'write'], claims: { sub: user } }
      },
    })
    yoga = createYoga({
      schema: stitchSchemas({ subschemas: [{ schema: own }, spillway] }),
      context: ({ request }) => ({ user: request.headers.get('x-user'), prisma: 'the client of the app' }),
      logging: false,
    }) as never
  }, 60_000)
  afterAll(async () => {
    await Promise.all([spillway?.close(), worker?.close()])
    await rm(dir, { recursive: true, force: true })
  })

  const send = (query: string, { user = 'writer', accept = 'application/json' }: { user?: string; accept?: string }) =>
    yoga.fetch('http://app/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept, ...(user ? { 'x-user': user } : {}) },
      body: JSON.stringify({ query }),
    })
  const ask = async (query: string, user?: string): Promise<Json> =>
    (await send(query, user === undefined ? {} : { user })).json()
  const save = async (content: string): Promise<string> => {
    const { data } = await ask(`mutation { save(content: "${content}", waitMs: 20000) { saveId status } }`)
    expect(data.save.status).toBe('SAVED')
    return data.save.saveId
  }

  /** The first results of a subscription; then the client leaves. */
  async function first(count: number, query: string): Promise<Json[]> {
    const response = await send(query, { accept: 'text/event-stream' })
    const results: Json[] = []
    let rest = ''
    const reader = response.body!.getReader()
    while (results.length < count) {
      const { value, done } = await reader.read()
      if (done) break
      rest += Buffer.from(value).toString()
      const frames = rest.split('\n\n')
      rest = frames.pop()!
      for (const [, data] of frames.join('\n').matchAll(/^data: (\{.*\})$/gm)) results.push(JSON.parse(data!))
    }
    await reader.cancel()
    return results
  }

  test('answers a query of both schemas, each with its own context', async () => {
    await save('both')
    expect(await ask('{ me prisma contents(first: 1) { edges { node { content } } } }')).toEqual({
      data: { me: 'writer', prisma: 'the client of the app', contents: { edges: [{ node: { content: 'both' } }] } },
    })
  })

  test('streams every saved row after a cursor, and resumes after the cursor of an event (P4, P11)', async () => {
    const { data } = await ask('{ contents(first: 1) { savedCursor } }')
    for (const content of ['one', 'two', 'three']) await save(content)
    const saved = (after: string) => `subscription { saved(after: "${after}") { cursor content { content } } }`
    const contents = (events: Json[]) => events.map((event) => event.data.saved.content.content)
    const all = await first(3, saved(data.contents.savedCursor))
    expect(contents(all)).toEqual(['one', 'two', 'three'])
    expect(contents(await first(2, saved(all[0].data.saved.cursor)))).toEqual(['two', 'three'])
  })

  test('ends a subscription whose cursor is of another log with CURSOR_EXPIRED', async () => {
    const cursor = 'AAAAAAAAAAAA.01795623381480.000000.000000'
    const [result] = await first(1, `subscription { saved(after: "${cursor}") { cursor } }`)
    expect(result.errors[0].extensions.code).toBe('CURSOR_EXPIRED')
  })

  test('shows the codes and messages of errors, whatever the other server masks', async () => {
    const { errors } = await ask('mutation { save(id: "1", content: "x") { saveId } }')
    expect(errors[0]).toMatchObject({ path: ['save'], extensions: { code: 'BAD_USER_INPUT' } })
    const id = await save('first')
    const conflict = await ask(`mutation { save(id: "${id}", content: "second") { saveId } }`)
    expect(conflict.errors[0].extensions.code).toBe('ID_CONFLICT')
  })

  test('refuses what access does not give, and shows no reason of its own errors', async () => {
    const refused = await ask('mutation { save(content: "x") { saveId } }', 'reader')
    expect(refused.errors[0]).toMatchObject({
      message: expect.stringContaining('"write"'),
      extensions: { code: 'FORBIDDEN' },
    })
    const admin = await ask('{ deadLetters { totalCount } }')
    expect(admin.errors[0].extensions.code).toBe('FORBIDDEN')
    const nobody = await ask('{ me contents { edges { node { id } } } }', '')
    expect(nobody.data).toEqual({ me: null, contents: null })
    expect(nobody.errors[0]).toMatchObject({
      message: 'Unexpected error.',
      extensions: { code: 'INTERNAL_SERVER_ERROR' },
    })
  })
})
