/** Fields of a model's own that read rows of a model with `visibleTo`: relations, lists and fields of the type Node. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { boot, type Spillway } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { makeTenants, secret, type Tenant } from '../harness/tenants.ts'
import { addToIndex, copyTree, type Tree } from '../harness/tree.ts'

const schema = `
model Memo {
  id        String   @id @db.Char(36)
  tenantId  String   @db.VarChar(20)
  text      String   @db.VarChar(20)
  notes     Note[]   @relation("memo")
  others    Note[]   @relation("other")
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)

  @@index([createdAt, id])
  @@index([tenantId, createdAt, id])
}

model Note {
  id        String   @id @db.Char(36)
  memoId    String   @db.Char(36)
  memo      Memo     @relation("memo", fields: [memoId], references: [id])
  otherId   String?  @db.Char(36)
  other     Memo?    @relation("other", fields: [otherId], references: [id])
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)

  @@index([createdAt, id])
}
`
const memo = `import { defineModel } from './prisma.ts'

export const Memo = defineModel('Memo', { visibleTo: { tenantId: 'tenant' } })
`
const note = `import { defineModel } from './prisma.ts'

export const Note = defineModel('Note', {
  fields: (t) => ({
    memo: t.relation('memo', { description: 'Required.' }),
    other: t.relation('other', { nullable: true, extensions: { shared: true }, description: 'Not required.' }),
    both: t.prismaField({
      type: ['Memo'],
      description: 'A list.',
      resolve: (query, { memoId, otherId }, _args, { prisma }) =>
        prisma.memo.findMany({ ...query, where: { id: { in: [memoId, otherId ?? memoId] } }, orderBy: { text: 'asc' } }),
    }),
  }),
})
`

let tree: Tree
let system: Spillway
let red: Tenant
let blue: Tenant
beforeAll(async () => {
  tree = await copyTree(schema)
  await tree.write('src/models/memo.ts', memo)
  await tree.write('src/models/note.ts', note)
  await addToIndex(tree, 'Memo', 'Note')
  await tree.node(['src/commands/migration.ts', 'notes'])
  system = await boot('embedded', { env: { AUTH_JWT_SECRET: secret }, tree: tree.path })
  ;[red, blue] = (await makeTenants(system.url)) as [Tenant, Tenant]
}, 120_000)
afterAll(async () => {
  await system?.stop()
  await tree?.[Symbol.asyncDispose]()
})

async function save({ client }: Tenant, name: 'Memo' | 'Note', input: Json): Promise<string> {
  const query = `mutation ($input: ${name}Input!) { save${name}(input: $input, waitMs: 20000) { saveId status } }`
  const { data, errors } = await client.graphql(query, { input })
  expect(data?.[`save${name}`]?.status, JSON.stringify(errors)).toBe('SAVED')
  return data[`save${name}`].saveId
}

test('Fields of a model return no row of another model that the client may not see', async () => {
  const theirs = await save(red, 'Memo', { text: 'a of red' })
  const own = await save(blue, 'Memo', { text: 'b of blue' })
  const id = await save(blue, 'Note', { memoId: theirs, otherId: theirs })
  const mixed = await save(blue, 'Note', { memoId: own, otherId: theirs })

  const ask = async ({ client }: Pick<Tenant, 'client'>, note: string, fields: string) =>
    await client.graphql(`{ note(id: "${note}") { ${fields} } }`)
  for (let i = 0; i < 3; i++) {
    const required = await ask(blue, id, 'memo { text }')
    expect(required.data).toEqual({ note: null })
    expect(required.errors[0].extensions.code).toBe('FORBIDDEN')
    const rest = 'memo { text } other { text } both { text }'
    expect((await ask(blue, id, 'other { text } both { text }')).data).toEqual({ note: { other: null, both: [] } })
    const [text, theirText] = [{ text: 'b of blue' }, { text: 'a of red' }]
    expect((await ask(blue, mixed, rest)).data.note).toEqual({ memo: text, other: null, both: [text] })
    expect((await ask(red, id, rest)).data.note).toEqual({ memo: theirText, other: theirText, both: [theirText] })
    const list = await blue.client.graphql('{ notes { edges { node { other { text } } } } }')
    expect(list.data.notes.edges.map(({ node }: Json) => node.other)).toEqual([null, null])
  }
  const everything = { client: (await makeTenants(system.url, { scope: 'read write admin' }))[0]!.client }
  expect((await ask(everything, mixed, 'both { text }')).data.note.both).toHaveLength(2)
})
