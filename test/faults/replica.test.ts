/** Pages of an API process whose MariaDB replica stands still: after a cursor (FA17), and with savedCursor (P11). */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { engine } from '../harness/engine.ts'
import { holds } from '../harness/eventually.ts'
import { startMariadb, type TestMariadb } from '../harness/mariadb.ts'
import { PageReader, pageWays } from '../harness/pages.ts'
import type { SpillwayProcess } from '../harness/process.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { record } from './table.ts'

let stack: Stack
let replica: TestMariadb
/** One reads the primary alone, the other one has the replica. They share the cache. */
let onPrimary: SpillwayProcess
let onReplica: SpillwayProcess

beforeAll(async () => {
  ;[stack, replica] = await Promise.all([
    Stack.start({
      apis: 1,
      workers: 1,
      mariadbArgs: ['--server-id=1', '--log-bin=changes', '--loose-binlog-format=ROW'],
    }),
    startMariadb({ args: ['--server-id=2', '--read-only=1'] }),
  ])
  await replica.sql(engine.replicate(stack.mariadb.port))
  await replica.sql('START REPLICA')
  onPrimary = stack.apis[0]!
  const readUrl = new URL(stack.database)
  readUrl.port = String(replica.port)
  onReplica = await stack.startApi({ DATABASE_READ_URL: readUrl.href })
})
afterAll(async () => {
  await stack?.stop()
  await replica?.cleanup()
})

const rowsOf = async (server: TestMariadb) =>
  Number((await server.sql('SELECT COUNT(*) AS n FROM Content', new URL(stack.database).pathname.slice(1)))[0]!.n)

/** Newest first. */
const idsOf = async (server: TestMariadb): Promise<string[]> => {
  const database = new URL(stack.database).pathname.slice(1)
  const rows = await server.sql('SELECT id FROM Content ORDER BY createdAt DESC, id DESC', database)
  return rows.map(({ id }) => id)
}

/** The ids of all pages, newest first, each page from the API that `from` names. */
async function crawl(from: (page: number) => SpillwayProcess): Promise<string[]> {
  const ids: string[] = []
  let after: string | null = null
  for (let page = 0; ; page++) {
    const { data } = await from(page).client.graphql(
      'query ($after: String) { contents(first: 5, after: $after) { edges { node { id } } pageInfo { endCursor hasNextPage } } }',
      { after },
    )
    const { edges, pageInfo } = data.contents
    ids.push(...edges.map((edge: { node: { id: string } }) => edge.node.id))
    if (!pageInfo.hasNextPage) return ids
    after = pageInfo.endCursor
  }
}

/** Saves rows that the replica gets, and then some that it does not. */
async function leaveBehind(): Promise<void> {
  for (const which of ['START', 'STOP']) {
    await replica.sql(`${which} REPLICA SQL_THREAD`)
    stack.write(4)
    await stack.more(30)
    await stack.stopWriting()
    await stack.drained()
    const rows = await rowsOf(stack.mariadb)
    if (which === 'START') await holds(async () => expect(await rowsOf(replica)).toBe(rows))
    else expect(await rowsOf(replica)).toBeLessThan(rows)
  }
}

test('FA17: a crawl meets every row while the replica lags behind its cursor', { timeout: 60_000 }, async () => {
  await leaveBehind()
  const verdict = await stack.verdict('a crawl over a replica that lags behind its cursor')
  record('FA17', 'redis + mariadb', verdict)
  expectSound(verdict)
  const all = await idsOf(stack.mariadb)
  expect(await crawl((page) => (page === 0 ? onPrimary : onReplica))).toEqual(all)
  // The pages of before are in the cache now, for both.
  expect(await crawl(() => onPrimary)).toEqual(all)
})

test.each(pageWays)('P11: a page with savedCursor has rows that the replica lacks (%s)', async (way) => {
  await leaveBehind()
  const [newest, lagging] = [await idsOf(stack.mariadb), await idsOf(replica)].map((ids) => ids.slice(0, 5))
  expect(lagging).not.toEqual(newest)

  const pages = new PageReader(onReplica.url!)
  const withoutCursor = async (api: SpillwayProcess) => {
    const { data } = await api.client.graphql('{ contents(first: 5) { edges { node { id } } } }')
    return data.contents.edges.map((edge: { node: { id: string } }) => edge.node.id)
  }
  for (let i = 0; i < 4; i++) {
    // The page of the replica is in the cache, which the process without a replica shares.
    expect(await withoutCursor(onReplica)).toEqual(lagging)
    expect(await withoutCursor(onPrimary)).toEqual(newest)
    // 3: a page that the other process has not read for it.
    for (const first of [5, 3]) {
      const { keys, savedCursor } = await pages.read(way, { args: { first } })
      expect(keys.map(({ id }) => id)).toEqual(newest!.slice(0, first))
      expect(savedCursor).toEqual(expect.any(String))
    }
  }
  await pages.close()
})
