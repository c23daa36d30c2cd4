/**
 * A schema that changed between two starts: rows, receipts and retries of before hold beside new columns; a value that its enum no longer
 * has is refused, and is no outage of the database.
 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Spillway, setUps } from '../harness/boot.ts'
import { addToIndex, copyTree, type Tree } from '../harness/tree.ts'
import { bootTree } from './every.ts'

const schema = `
model Tag {
  id        String   @id @db.Char(36)
  kind      Kind
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)

  @@index([createdAt, id])
}

enum Kind {
  KEPT
  GONE
}
`

let tree: Tree
const systems = new Map<string, Spillway>()
const ids = { KEPT: randomUUID(), GONE: randomUUID() }
const save = 'mutation ($kind: Kind!, $id: ID) { saveTag(input: { kind: $kind }, id: $id, waitMs: 30000) { status } }'

beforeAll(async () => {
  tree = await copyTree(schema)
  await tree.write(
    'src/models/tag.ts',
    "import { defineModel } from './prisma.ts'\n\nexport const Tag = defineModel('Tag', {})\n",
  )
  await addToIndex(tree, 'Tag')
  await tree.node(['src/commands/migration.ts', 'tags'])
  for (const setUp of setUps) {
    const system = await bootTree(tree, setUp)
    systems.set(setUp, system)
    for (const kind of ['KEPT', 'GONE'] as const)
      expect((await system.client.graphql(save, { kind, id: ids[kind] })).data.saveTag).toEqual({ status: 'SAVED' })
    await Promise.all([...system.apis, ...system.workers].map((process) => system.kill(process, 'SIGTERM')))
  }
  const added = '  note String @default("a note") @db.VarChar(10)\n  more Int?\n'
  await tree.replace('prisma/schema.prisma', '  kind      Kind\n', `  kind      Kind\n${added}`)
  await tree.node(['src/commands/migration.ts', 'more'])
  await tree.replace('prisma/schema.prisma', '  GONE\n', '')
  await tree.generate()
  for (const system of systems.values()) await system.start(1, 1)
}, 240_000)
afterAll(async () => {
  for (const system of systems.values()) await system.stop()
  await tree?.[Symbol.asyncDispose]()
})

describe.each(setUps)('A save of before the columns were added (%s)', (setUp) => {
  test('keeps its receipt, and a retry of it is a duplicate (P3)', async () => {
    const { client } = systems.get(setUp)!
    const row = { id: ids.KEPT, kind: 'KEPT', note: 'a note', more: null }
    expect(await client.receipt(ids.KEPT)).toMatchObject({ status: 'SAVED', conflicts: 0, tag: row })
    const again =
      'mutation ($id: ID!) { saveTag(input: { kind: KEPT }, id: $id) { duplicate status tag { note more } } }'
    const { data, errors } = await client.graphql(again, { id: ids.KEPT })
    expect(errors).toBeUndefined()
    expect(data.saveTag).toEqual({ duplicate: true, status: 'SAVED', tag: { note: 'a note', more: null } })
    const response = await client.fetch('/tags', {
      method: 'POST',
      body: JSON.stringify({ id: ids.KEPT, kind: 'KEPT', note: 'another' }),
    })
    expect(response.status).toBe(409)
  })
})

describe.each(setUps)('A value that its enum no longer has (%s)', (setUp) => {
  test('is refused, and other values are saved', async () => {
    const { client } = systems.get(setUp)!
    const response = await client.fetch('/tags', { method: 'POST', body: '{"kind":"GONE"}' })
    const [error] = (await response.json()).errors
    expect([response.status, error.message]).toEqual([400, 'kind of Tag must be one of KEPT, got "GONE"'])
    expect((await client.graphql(save, { kind: 'KEPT' })).data.saveTag).toEqual({ status: 'SAVED' })
  })

  test('makes a list with such a row fail as a defect that the log explains, and no other read', async () => {
    const system = systems.get(setUp)!
    const list = await system.client.graphql('{ tags { edges { node { kind } } } }')
    expect(list.errors[0].extensions.code).toBe('INTERNAL_SERVER_ERROR')
    expect((await system.client.fetch('/tags')).status).toBe(500)
    expect(system.api.logs()).toContain("Value 'GONE' not found in enum 'Kind'")
    expect(system.api.logs()).toContain('add it to prisma/schema.prisma again, or change the rows')
    const { data } = await system.client.graphql('query ($id: ID!) { tag(id: $id) { kind } }', { id: ids.KEPT })
    expect(data.tag).toEqual({ kind: 'KEPT' })
  })
})
