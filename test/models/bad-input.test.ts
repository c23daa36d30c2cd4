/**
 * Input that a model refuses: each error has the model, the column and the limit, in GraphQL and REST alike, and nothing is enqueued. The
 * models are those of examples/comments and one that few may see, in a copy of the tree.
 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Spillway, setUps } from '../harness/boot.ts'
import { type Client, client, type Json } from '../harness/client.ts'
import { secret, tokenOf } from '../harness/tenants.ts'
import type { Tree } from '../harness/tree.ts'
import { treeWithComments } from './comments.ts'
import { bootTree } from './every.ts'

const note = `
model Note {
  id        String   @id @db.Char(36)
  tenantId  String   @db.VarChar(20)
  kind      Kind
  topic     String   @db.VarChar(10)
  code      String?  @db.VarChar(8)
  number    BigInt?
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)

  @@index([createdAt, id])
  @@index([tenantId, createdAt, id])
  @@index([tenantId, topic, createdAt, id])
  @@index([topic, createdAt, id])
  @@index([tenantId, number, createdAt, id])
  @@index([number, createdAt, id])
}

enum Kind {
  QUESTION
  ANSWER
}
`
const noteModel = `import { defineModel } from './prisma.ts'

export const Note = defineModel('Note', {
  columns: { code: { pattern: /^[a-z]+$/ } },
  visibleTo: { tenantId: 'tenant' },
  by: [['topic'], ['tenantId'], ['number']],
})
`

let tree: Tree
beforeAll(async () => {
  tree = await treeWithComments({ schema: note, models: { Note: noteModel } })
}, 180_000)
afterAll(() => tree?.[Symbol.asyncDispose]())

const postId = randomUUID()
const comment = { postId, body: 'a comment' }
const aNote = { kind: 'ANSWER', topic: 'a topic' }

type Case = readonly [title: string, model: 'Comment' | 'Note', input: Json, named: readonly (string | RegExp)[]]
/** What the message has besides the model's name. In GraphQL, types and nulls are checked by the schema, whose types are named alike. */
const cases: Case[] = [
  ['a column that is missing', 'Comment', { body: 'a' }, ['postId']],
  ['null in a required column', 'Comment', { ...comment, body: null }, ['body', 'null']],
  [
    'a column that Spillway sets',
    'Comment',
    { ...comment, createdAt: 'x' },
    ['createdAt', /set by Spillway; leave it out|not defined/],
  ],
  ['a column that there is not', 'Comment', { ...comment, colour: 'red' }, ['colour']],
  ['a number in place of a text', 'Comment', { ...comment, body: 1 }, ['body', /string/i]],
  ['a text in place of a number', 'Comment', { ...comment, rating: '5' }, ['rating', /whole number|integer/]],
  ['an object in place of a text', 'Comment', { ...comment, body: { a: 1 } }, ['body', /string/i]],
  ['a list in place of a text', 'Comment', { ...comment, body: ['a'] }, ['body', /string/i]],
  ['too many bytes', 'Comment', { ...comment, body: 'é'.repeat(5_001) }, ['body', '10002 bytes', '10000']],
  ['too many characters', 'Note', { ...aNote, topic: '😀'.repeat(11) }, ['topic', '11 characters', '10']],
  ['too small a number', 'Comment', { ...comment, rating: 0 }, ['rating', 'at least 1', 'at most 5']],
  ['too large a number', 'Comment', { ...comment, rating: 6 }, ['rating', 'at least 1', 'at most 5']],
  ['a fraction of a whole number', 'Comment', { ...comment, rating: 1.5 }, ['rating', /whole number|integer/]],
  ['a value that the enum lacks', 'Note', { ...aNote, kind: 'JOKE' }, ['kind', /Kind|QUESTION, ANSWER/]],
  ['an id of a parent that is no UUID', 'Comment', { ...comment, postId: 'é' }, ['postId', 'Post', 'UUID']],
  ['an id of a parent in upper case', 'Comment', { ...comment, postId: 'A'.repeat(36) }, ['postId', 'lower case']],
  ['a text that the pattern excludes', 'Note', { ...aNote, code: 'A1' }, ['code', '/^[a-z]+$/']],
  ['a text that ends with a space, in a column of lists', 'Note', { ...aNote, topic: 'a ' }, ['topic', 'space']],
  ['a column that is set from the token', 'Comment', { ...comment, author: 'somebody else' }, ['author']],
  ['the column of visibleTo', 'Note', { ...aNote, tenantId: 'globex' }, ['tenantId']],
  ['what check refuses', 'Comment', { ...comment, body: ' ' }, ['body is blank']],
  ['an id that is no UUID', 'Comment', { ...comment, id: 'x' }, [/id|UUID/]],
]

describe.each(setUps)('Bad input (%s)', (setUp) => {
  let system: Spillway
  let admin: Client
  let acme: Client
  beforeAll(async () => {
    system = await bootTree(tree, setUp, { env: { AUTH_JWT_SECRET: secret } })
    admin = client(() => system.url, await tokenOf())
    acme = client(() => system.url, await tokenOf({ scope: 'read write', sub: 'ann', tenant: 'acme' }))
  }, 120_000)
  afterAll(() => system?.stop())

  const path = (model: string) => `/${model.toLowerCase()}s`
  const post = async (who: Client, model: string, body: Json) => {
    const response = await who.fetch(path(model), { method: 'POST', body: JSON.stringify(body) })
    return { status: response.status, body: (await response.json()) as Json }
  }
  const save = (who: Client, model: string, input: Json) =>
    who.graphql(`mutation ($input: ${model}Input!) { save${model}(input: $input) { saveId } }`, { input })
  const accepted = async () => {
    const text = await (await admin.fetch('/metrics')).text()
    return [...text.matchAll(/^spillway_saves_accepted_total\{model="\w+"\} (\d+)/gm)].map(([, count]) => Number(count))
  }

  test.each(cases)(
    '%s is refused, with the model and the column, in GraphQL and REST',
    async (_title, model, input, named) => {
      const before = await accepted()
      const answers = [await save(acme, model, input), await post(acme, model, input)]
      expect(answers.map(({ status }) => status)).toEqual([400, 400])
      for (const { body } of answers) {
        expect(body.errors[0].extensions.code).toBe('BAD_USER_INPUT')
        for (const part of named) expect(body.errors[0].message).toMatch(part)
        if (input.id === undefined) expect(body.errors[0].message).toContain(model)
      }
      expect(await accepted()).toEqual(before)
    },
  )

  test.each([
    ['Comment', '{"postId":"…","body":"something"}'],
    ['Note', '{"kind":"QUESTION","topic":"something"}'],
  ])('a body that is no JSON is refused, with one that %s would accept', async (model, example) => {
    const response = await acme.fetch(path(model), { method: 'POST', body: 'hello' })
    expect(response.status).toBe(400)
    expect((await response.json()).errors[0].message).toBe(`the body is not JSON; expected JSON such as ${example}`)
  })

  test.each([
    ['a column that is missing', { kind: 'ANSWER' }, ['topic', 'NoteInput']],
    ['too many characters', { ...aNote, topic: 'x'.repeat(11) }, ['inputs[998].topic of Note', '10']],
    ['a value that the enum lacks', { ...aNote, kind: 'JOKE' }, ['inputs[998]', 'kind']],
    ['the column of visibleTo', { ...aNote, tenantId: 'acme' }, ['inputs[998]', 'tenantId']],
  ])('saveNotes with %s in one of a thousand rows refuses all, and names the row', async (_title, bad, named) => {
    const before = await accepted()
    const inputs = Array.from({ length: 1_000 }, (_, i) => (i === 998 ? bad : aNote))
    const { body } = await acme.graphql('mutation ($inputs: [NoteInput!]!) { saveNotes(inputs: $inputs) { saveId } }', {
      inputs,
    })
    expect(body.errors).toHaveLength(1)
    expect(body.errors[0].extensions.code).toBe('BAD_USER_INPUT')
    for (const part of named) expect(body.errors[0].message).toContain(part)
    expect(await accepted()).toEqual(before)
  })

  test('a list narrowed to another tenant is FORBIDDEN, and one narrowed in a way that there is not is refused', async () => {
    const list = (args: string) => acme.graphql(`{ notes${args} { edges { node { id } } } }`)
    expect((await list('(tenantId: "globex")')).errors[0]).toMatchObject({
      message: expect.stringContaining('Rows of Note with another tenantId'),
      extensions: { code: 'FORBIDDEN' },
    })
    expect((await list('(tenantId: "acme", topic: "a")')).errors[0]).toMatchObject({
      message: 'notes cannot be narrowed by tenantId and topic; expected: by topic, or by tenantId, or by number',
      extensions: { code: 'BAD_USER_INPUT' },
    })
    const get = async (query: string) => {
      const response = await acme.fetch(`/notes?${query}`)
      return [response.status, (await response.json()).errors?.[0].message]
    }
    expect(await get('tenantId=globex')).toEqual([403, expect.stringContaining('Rows of Note with another tenantId')])
    expect(await get('tenantId=acme&topic=a')).toEqual([400, expect.stringContaining('by topic, or by tenantId')])
    expect(await get('kind=ANSWER')).toEqual([400, expect.stringContaining('there is no parameter "kind"')])
    expect(await get('topic=a&topic=b')).toEqual([400, expect.stringContaining('topic')])
    expect(await get(`topic=${'x'.repeat(11)}`)).toEqual([400, expect.stringContaining('at most 10')])
    expect(await get('topic=a')).toEqual([200, undefined])
    expect(await get(`number=${2n ** 63n}`)).toEqual([400, expect.stringContaining('at most 9223372036854775807')])
    expect(await get(`number=${2n ** 63n - 1n}`)).toEqual([200, undefined])
    expect((await list(`(number: "${-(2n ** 63n) - 1n}")`)).errors[0]).toMatchObject({
      message: expect.stringContaining('number of Note must be at least -9223372036854775808'),
      extensions: { code: 'BAD_USER_INPUT' },
    })
  })

  test('a token without the claim of visibleTo saves and reads nothing; one without the claim of fromToken saves nothing', async () => {
    const nobody = client(() => system.url, await tokenOf({ scope: 'read write', sub: 'bob' }))
    for (const { body } of [await save(nobody, 'Note', aNote), await post(nobody, 'Note', aNote)]) {
      expect(body.errors[0].extensions.code).toBe('FORBIDDEN')
      expect(body.errors[0].message).toMatch(/tenantId of Note.*"tenant"/)
    }
    expect((await nobody.graphql('{ notes { edges { node { id } } } }')).errors[0].extensions.code).toBe('FORBIDDEN')
    expect((await nobody.fetch('/notes')).status).toBe(403)
    const long = client(() => system.url, await tokenOf({ scope: 'write', sub: 'x'.repeat(101), tenant: 'acme' }))
    const { body } = await save(long, 'Comment', comment)
    expect(body.errors[0].message).toMatch(/"sub" cannot be author of Comment: it is 101 characters long; at most 100/)
  })
})
