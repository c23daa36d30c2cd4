/** Models with unusual names and shapes: SQL's keywords, names of the database's own, no columns, and the largest row that is accepted. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Spillway, setUps } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { copyTree, type Tree } from '../harness/tree.ts'
import { bootTree } from './every.ts'

const schema = `
model Ping {
  id        String   @id @db.Char(36)
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)
}

model blog_URL {
  id        String   @id @db.Char(36)
  order     Int?     @map("group")
  key       String   @db.VarChar(50)
  select    Boolean  @default(false)
  kind      odd_kind @default(A_b)
  count     BigInt?
  who       String?  @db.VarChar(100)
  text      String   @db.MediumText
  blob      Bytes
  json      Json?
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)

  @@index([createdAt, id])
  @@index([key, createdAt, id])
  @@index([select, createdAt, id])
  @@index([kind, order, createdAt, id])
  @@index([count, createdAt, id])
  @@map("the table")
}

enum odd_kind {
  A_b
  c   @map("C 'c'")

  @@map("kinds")
}
`
const source = `import { defineModel } from './prisma.ts'

export const Ping = defineModel('Ping', { names: { flat: true } })
export const Odd = defineModel('blog_URL', {
  columns: { who: { fromToken: 'sub' } },
  by: [['key'], ['select'], ['kind', 'order'], ['count']],
})
`

let tree: Tree
beforeAll(async () => {
  tree = await copyTree(schema)
  await tree.write('src/models/odd.ts', source)
  await tree.replace('src/models/index.ts', 'import ', "import { Odd, Ping } from './odd.ts'\nimport ")
  await tree.replace('src/models/index.ts', 'models = [Content', 'models = [Content, Odd, Ping')
  await tree.node(['src/commands/migration.ts', 'odd'])
}, 180_000)
afterAll(() => tree?.[Symbol.asyncDispose]())

const fields = 'key order select kind count who text blob json'
const save = `mutation ($input: blog_URLInput!) { saveblog_URL(input: $input, waitMs: 30000) { status failure { message } blog_URL { ${fields} } } }`

describe.each(setUps)('Models with unusual names (%s)', (setUp) => {
  let system: Spillway
  beforeAll(async () => {
    system = await bootTree(tree, setUp)
  }, 120_000)
  afterAll(() => system?.stop())

  const saved = async (input: Json) => {
    const { data, errors } = await system.client.graphql(save, { input })
    expect(errors).toBeUndefined()
    return data.saveblog_URL
  }

  test('a model without columns of its own saves rows', async () => {
    const { data } = await system.client.graphql(
      'mutation { savePing(waitMs: 30000) { status ping { id savedAt } } savePings(inputs: [{}, {}]) { status } }',
    )
    expect(data).toEqual({
      savePing: { status: 'SAVED', ping: { id: expect.any(String), savedAt: expect.any(String) } },
      savePings: [{ status: 'QUEUED' }, { status: 'QUEUED' }],
    })
    expect((await system.client.fetch('/pings', { method: 'POST', body: '{}' })).status).toBe(202)
  })

  test('a model with keywords of SQL for names is saved, and narrowed by each type of column', async () => {
    const first = { key: 'k', text: 'a', blob: 'AA==', kind: 'c', order: 0, count: '-5', json: { x: 1 } }
    const second = { key: 'k2', text: '', blob: '', select: true, json: null }
    const rows = [
      { ...first, select: false, who: null },
      { ...second, order: null, kind: 'A_b', count: null, who: null },
    ]
    expect(await saved(first)).toEqual({ status: 'SAVED', failure: null, blog_URL: rows[0] })
    expect(await saved(second)).toEqual({ status: 'SAVED', failure: null, blog_URL: rows[1] })
    const narrowings: [graphql: string, rest: string, row: Json][] = [
      ['key: "k"', 'key=k', rows[0]],
      ['select: true', 'select=true', rows[1]],
      ['select: false', 'select=false', rows[0]],
      ['kind: c, order: 0', 'kind=c&order=0', rows[0]],
      ['count: "-5"', 'count=-5', rows[0]],
    ]
    for (const [args, search, row] of narrowings) {
      const { data } = await system.client.graphql(`{ blog_URLs(${args}) { edges { node { ${fields} } } } }`)
      expect(data.blog_URLs.edges).toEqual([{ node: row }])
      const { results } = await (await system.client.fetch(`/blog_URLs?${search}`)).json()
      expect(results).toMatchObject([row])
    }
  })

  test('the largest row that is accepted is saved, in GraphQL and REST', async () => {
    const large = {
      key: 'large',
      text: '\u0001'.repeat(65_536),
      blob: Buffer.alloc(65_536, 1).toString('base64'),
      json: ['é'.repeat(32_000)],
    }
    expect(await saved(large)).toMatchObject({ status: 'SAVED', blog_URL: large })
    const response = await system.client.fetch('/blog_URLs', { method: 'POST', body: JSON.stringify(large) })
    expect(response.status).toBe(202)
    const { data } = await system.client.graphql(save, { input: { ...large, text: `${large.text}.` } })
    expect(data.saveblog_URL).toBeNull()
  })
})
