/** FA11: a row that is changed in the database itself, as Prisma Studio does: no event tells of it, and CACHE_TTL_MS is how long it may go unseen. */
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type SetUp, type Spillway, setUps, unique } from '../harness/boot.ts'
import { holds } from '../harness/eventually.ts'
import { query } from '../harness/mariadb.ts'

const ttlMs = 3_000

describe.each<SetUp>(setUps)('Spillway (%s)', (setUp) => {
  let system: Spillway
  beforeAll(async () => {
    system = await boot(setUp, { env: { CACHE_TTL_MS: String(ttlMs) }, workers: 1 })
  })
  afterAll(() => system?.stop())

  async function update(statement: string): Promise<void> {
    const url = system.env.DATABASE_URL!
    if (url.startsWith('mysql:')) {
      await query(url, statement)
      return
    }
    const db = new DatabaseSync(url.slice('file:'.length), { timeout: 5_000 })
    db.exec(statement)
    db.close()
  }

  const ways: [string, () => Promise<string>][] = [
    [
      'contents over GraphQL',
      async () =>
        JSON.stringify((await system.client.graphql('{ contents(first: 7) { edges { node { content } } } }')).body),
    ],
    ['GET /', async () => (await fetch(`${system.url}/?first=7`, { headers: { accept: 'application/json' } })).text()],
  ]
  test.each(ways)('returns a changed row by %s after CACHE_TTL_MS (FA11)', async (_way, read) => {
    const [before, after] = [unique(), unique()]
    const { body } = await system.client.graphql(
      'mutation ($c: String!) { save(content: $c, waitMs: 20000) { saveId } }',
      {
        c: before,
      },
    )
    const { saveId: id } = body.data.save
    // Often enough that the answer is kept as bytes, made of a page that was kept before.
    for (let i = 0; i < 10; i++) expect(await read()).toContain(before)
    const changed = performance.now()
    await update(`UPDATE Content SET content = '${after}' WHERE id = '${id}'`)
    await holds(async () => expect(await read()).toContain(after), { timeoutMs: 30_000, intervalMs: 50 })
    // Twice the time would be a kept answer made of a page that was already old.
    expect(performance.now() - changed).toBeLessThan(ttlMs * 1.8)
  })
})
