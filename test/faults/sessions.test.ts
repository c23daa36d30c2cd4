/**
 * What a database session inherits, on whole processes (FA1, FA2): the server's options, SET GLOBAL while running, and init_connect, which
 * the server runs for users without SUPER.
 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { engine } from '../harness/engine.ts'
import { holds } from '../harness/eventually.ts'
import { connect, query } from '../harness/mariadb.ts'
import { spawnSpillway } from '../harness/process.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { record } from './table.ts'

/** As the test's own connections inherit them, these leave SELECT and DDL as they are. */
const hostileOptions = [
  '--autocommit=0',
  '--completion-type=CHAIN',
  '--transaction-isolation=SERIALIZABLE',
  // MySQL has no such option: there, the sessions get it from init_connect.
  '--loose-sql-safe-updates=1',
  '--default-time-zone=+05:30',
  '--default-storage-engine=MyISAM',
  '--sql-mode=NO_BACKSLASH_ESCAPES,ANSI_QUOTES',
  `--init-connect=SET ${['autocommit = 0', 'sql_safe_updates = 1', 'sql_select_limit = 1', 'max_join_size = 1', `${engine.readOnly} = 1`, ...engine.hostile].join(', ')}`,
]

let stack: Stack

beforeAll(async () => {
  stack = await Stack.start({
    apis: 1,
    mariadbArgs: hostileOptions,
    async databaseUrl(url) {
      await query(url, "CREATE USER app@'%'")
      await query(url, "GRANT ALL ON *.* TO app@'%'")
      await query(url, `REVOKE ${engine.administration} ON *.* FROM app@'%'`)
      const app = new URL(url)
      app.username = 'app'
      return app.href
    },
  })
})
afterAll(() => stack?.stop())

const sql = (statement: string) => stack.mariadb.sql(statement, new URL(stack.database).pathname.slice(1))
const save =
  'mutation ($content: String!, $id: ID) { save(content: $content, id: $id, waitMs: 10000) { status content { createdAt savedAt } } }'

test('FA1: a save that is SAVED is a row for every other connection, with its times', async () => {
  const id = randomUUID()
  stack.sent.set(id, 'there')
  const { data } = await stack.client.graphql(save, { content: 'there', id })
  expect(data.save.status).toBe('SAVED')
  const [row] = await sql(
    `SELECT content, CAST(createdAt AS CHAR) AS createdAt, CAST(savedAt AS CHAR) AS savedAt FROM Content WHERE id = '${id}'`,
  )
  const inUtc = (text: string) => `${text.replace(' ', 'T')}Z`
  expect(row).toMatchObject({ content: 'there' })
  expect({ createdAt: inUtc(row!.createdAt), savedAt: inUtc(row!.savedAt) }).toEqual(data.save.content)
  expect(
    await sql('SELECT DISTINCT engine AS engine FROM information_schema.tables WHERE table_schema = DATABASE()'),
  ).toEqual([{ engine: 'InnoDB' }])
})

test('FA1: everything acknowledged is a row while the server’s options are hostile', { timeout: 60_000 }, async () => {
  const fault = 'autocommit=0, CHAIN, SERIALIZABLE, read-only, limits, by options and init_connect'
  stack.write(4)
  await stack.more(200)
  const verdict = await stack.verdict(fault)
  record('FA1', 'redis + mariadb', verdict)
  expectSound(verdict)
  const pages = await stack.client.graphql(
    '{ contents(first: 100) { edges { node { id } } pageInfo { hasNextPage } } }',
  )
  expect(pages.data.contents.edges).toHaveLength(100)
  expect(pages.data.contents.pageInfo.hasNextPage).toBe(true)
})

test('FA2: ten receipts at once come back after SET GLOBAL on a running server', { timeout: 60_000 }, async () => {
  // From before: what it inherits is not what is tested.
  const admin = await connect(stack.database)
  await admin.query(`SET GLOBAL sql_select_limit = 3, max_join_size = 1, ${engine.readOnly} = 1`)
  try {
    const connections = await admin.query(`SELECT id FROM ${engine.processlist} WHERE user = 'app'`)
    for (const { id } of connections) await admin.query(`KILL ${id}`).catch(() => {})
    stack.write(4)
    await stack.more(200)
    const ids = [...stack.acknowledged].slice(-10)
    await stack.stopWriting()
    await stack.drained()
    for (const name of ['saved', 'saved-before']) await stack.redis.cli('DEL', `{spillway:0}:${name}`)
    const fields = ids.map(
      (id, i) => `r${i}: receipt(id: "${id}") { status ... on ContentReceipt { content { id content } } }`,
    )
    const { data } = await holds(async () => {
      const answer = await stack.client.graphql(`{ ${fields.join(' ')} }`)
      expect(answer.errors).toBeUndefined()
      return answer
    })
    expect(ids.map((_, i) => data[`r${i}`])).toEqual(
      ids.map((id) => ({ status: 'SAVED', content: { id, content: stack.sent.get(id) } })),
    )
  } finally {
    // From before: what it inherits is not what is tested.
    const admin = await connect(stack.database)
    await admin.query(`SET GLOBAL sql_select_limit = DEFAULT, max_join_size = DEFAULT, ${engine.readOnly} = DEFAULT`)
  }
  const verdict = await stack.verdict('sql_select_limit=3, max_join_size=1 and read-only by SET GLOBAL while running')
  record('FA2', 'redis + mariadb', verdict)
  expectSound(verdict)
})

test.each(['api', 'worker'] as const)(
  'FA1: the %s refuses to start over a session variable that does not hold, and names it',
  { timeout: 90_000 },
  async (role) => {
    const refused = await Stack.start({
      apis: 0,
      workers: 0,
      mariadbArgs: ['--max-sort-length=64', '--maximum-max-sort-length=100'],
    })
    try {
      const process = await spawnSpillway(role, refused.env, { ready: false })
      expect(await process.exited, process.logs()).toBe(1)
      const [line] = process
        .logs()
        .split('\n')
        .filter((text) => text.includes('"level":60'))
      expect(JSON.parse(line!).msg).toMatch(
        /^DATABASE_URL: the session variable max_sort_length is "64" although Spillway set it to "1024" .* set them on the server/,
      )
      expect(await refused.mariadb.sql(`SHOW TABLES FROM ${new URL(refused.database).pathname.slice(1)}`)).toEqual([])
    } finally {
      await refused.stop()
    }
  },
)
