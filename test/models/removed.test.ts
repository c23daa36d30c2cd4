/** A value that an enum no longer has, in rows of the last release: it is refused, and no outage of the database. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Spillway, setUps } from '../harness/boot.ts'
import { copyTree, type Tree } from '../harness/tree.ts'
import { addToIndex, bootTree } from './every.ts'

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
  await tree.replace('prisma/schema.prisma', '  GONE\n', '')
  await tree.generate()
  for (const system of systems.values()) await system.start(1, 1)
}, 240_000)
afterAll(async () => {
  for (const system of systems.values()) await system.stop()
  await tree?.[Symbol.asyncDispose]()
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
