/** The dead letters as an operator sees them over GraphQL: a list in both directions, filters, dry runs, and clear errors; on both set-ups. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { putRows, removeRow, statement } from '../harness/rows.ts'

const list = `query ($first: Int, $after: String, $last: Int, $before: String, $filter: DeadLetterFilter) {
  deadLetters(first: $first, after: $after, last: $last, before: $before, filter: $filter) {
    totalCount
    edges { cursor node { saveId model input acceptedAt failure { code failedAt } } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}`
const save = 'mutation ($id: ID!, $content: String!) { save(id: $id, content: $content, waitMs: 20000) { status } }'
const count = 7

describe.each(setUps)('Spillway (%s) with seven dead letters', (setUp) => {
  let system: Spillway
  /** In the order in which they failed. */
  const ids = Array.from({ length: count }, () => randomUUID() as string)
  const newestFirst = ids.toReversed()
  const times: string[] = []
  beforeAll(async () => {
    system = await boot(setUp, { workers: 1 })
    await putRows(system.env.DATABASE_URL!, ids, 'in the way')
    for (const [n, id] of ids.entries()) {
      const { body } = await system.client.graphql(save, { id, content: `content ${n} ` })
      expect(body.data.save).toEqual({ status: 'FAILED' })
    }
    for (const { node } of (await page({})).edges) times.unshift(node.failure.failedAt)
  })
  afterAll(() => system?.stop())

  const page = async (variables: Record<string, unknown>): Promise<Json> => {
    const { body } = await system.client.graphql(list, variables)
    expect(body.errors).toBeUndefined()
    return body.data.deadLetters
  }
  const idsOf = ({ edges }: Json): string[] => edges.map(({ node }: Json) => node.saveId)

  test('lists them newest first, with their input as JSON', async () => {
    const all = await page({})
    expect(idsOf(all)).toEqual(newestFirst)
    expect(all.totalCount).toBe(count)
    expect(all.edges[0]).toEqual({
      cursor: all.pageInfo.startCursor,
      node: {
        saveId: ids.at(-1),
        model: 'Content',
        input: { content: 'content 6 ' },
        acceptedAt: expect.stringMatching(/Z$/),
        failure: { code: 'ID_CONFLICT', failedAt: times.at(-1) },
      },
    })
    expect(all.pageInfo).toMatchObject({ hasNextPage: false, hasPreviousPage: false })
  })

  test.each([undefined, { model: 'Content', failedAfter: '2000-01-01T00:00:00Z' }])(
    'pages through them in both directions, with the filter %j',
    async (filter) => {
      const forward: string[][] = []
      let after: string | null = null
      do {
        const { edges, pageInfo, totalCount }: Json = await page({ first: 3, after, filter })
        forward.push(idsOf({ edges }))
        expect(totalCount).toBe(count)
        expect(pageInfo.hasPreviousPage).toBe(after !== null)
        after = pageInfo.hasNextPage ? pageInfo.endCursor : null
      } while (after !== null)
      expect(forward).toEqual([newestFirst.slice(0, 3), newestFirst.slice(3, 6), newestFirst.slice(6)])
      const backward: string[][] = []
      let before: string | null = null
      do {
        const { edges, pageInfo }: Json = await page({ last: 3, before, filter })
        backward.unshift(idsOf({ edges }))
        expect(pageInfo.hasNextPage).toBe(before !== null)
        before = pageInfo.hasPreviousPage ? pageInfo.startCursor : null
      } while (before !== null)
      expect(backward).toEqual([newestFirst.slice(0, 1), newestFirst.slice(1, 4), newestFirst.slice(4)])
      const { edges } = await page({ filter })
      const between = { after: edges[1].cursor, before: edges[5].cursor, filter }
      expect(idsOf(await page({ ...between, first: 2 }))).toEqual(newestFirst.slice(2, 4))
      expect(idsOf(await page({ ...between, last: 2 }))).toEqual(newestFirst.slice(3, 5))
      expect(await page({ first: 0, filter })).toMatchObject({ edges: [], pageInfo: { hasNextPage: true } })
    },
  )

  test('counts and lists those that match a filter only', async () => {
    const filter = { failedAfter: times[2], failedBefore: times[5] }
    const matching = times.flatMap((time, n) => (time >= times[2]! && time < times[5]! ? [ids[n]] : []))
    const { totalCount, ...found } = await page({ filter })
    expect([totalCount, idsOf(found)]).toEqual([matching.length, matching.toReversed()])
    expect(await page({ filter: { reason: 'ALREADY saved' } })).toMatchObject({ totalCount: count })
    expect(await page({ filter: { reason: 'a fault of nobody' } })).toMatchObject({ totalCount: 0, edges: [] })
    expect(await page({ filter: { code: 'CRASHED' } })).toMatchObject({ totalCount: 0, edges: [] })
  })

  test('counts them by code and by model, with a filter and without', async () => {
    const counts = `query ($filter: DeadLetterFilter) {
      deadLetters(first: 0, filter: $filter) { countsByCode { code count } totalCount countsByModel { model count } }
    }`
    const of = async (filter?: object) => (await system.client.graphql(counts, { filter })).body.data.deadLetters
    const all = {
      countsByCode: [{ code: 'ID_CONFLICT', count }],
      totalCount: count,
      countsByModel: [{ model: 'Content', count }],
    }
    expect(await of()).toEqual(all)
    expect(await of({ model: 'Content' })).toEqual(all)
    expect(await of({ code: 'CRASHED' })).toEqual({ countsByCode: [], totalCount: 0, countsByModel: [] })
  })

  test('looks an id up: its receipt, its row, and its dead letters', async () => {
    const lookup = `query ($id: ID!) {
      lookup: saveLookup(id: $id) {
        saveId
        receipt { model status conflicts ... on ContentReceipt { content { content } } }
        row
        deadLetterCount
        deadLetters { saveId model input failure { code attempts } acceptedAt }
      }
    }`
    const of = async (id: string) => {
      const { body } = await system.client.graphql(lookup, { id })
      expect(body.errors).toBeUndefined()
      return body.data.lookup
    }
    const [id] = ids
    const time = expect.stringMatching(/Z$/)
    expect(await of(id!.toUpperCase())).toEqual({
      saveId: id,
      receipt: { model: 'Content', status: 'SAVED', conflicts: 1, content: { content: 'in the way' } },
      row: { id, content: 'in the way', createdAt: time, savedAt: time },
      deadLetterCount: 1,
      deadLetters: [
        {
          saveId: id,
          model: 'Content',
          input: { content: 'content 0 ' },
          failure: { code: 'ID_CONFLICT', attempts: expect.any(Number) },
          acceptedAt: time,
        },
      ],
    })
    for (const unknown of [randomUUID(), '5-5', 'no id', ''])
      expect(await of(unknown), unknown).toEqual({
        saveId: unknown,
        receipt: null,
        row: null,
        deadLetterCount: 0,
        deadLetters: [],
      })
  })

  test.each<[string, Record<string, unknown>, RegExp]>([
    ['first and last', { first: 1, last: 1 }, /first and last cannot be used together/],
    ['a negative first', { first: -1 }, /first must not be negative/],
    ['a last above 100', { last: 101 }, /last must be at most 100, got 101/],
    ['an after that is no cursor', { after: 'x' }, /not a cursor/],
    ['a before that is no cursor', { before: '' }, /not a cursor/],
    ['a cursor of contents', { after: 'R1BDOkE6', filter: { code: 'CRASHED' } }, /not a cursor/],
    ['a code that there is not', { filter: { code: 'LOST' } }, /code must be one of .*, got "LOST"/],
    ['a model that there is not', { filter: { model: 'content' } }, /model must be one of Content, got "content"/],
    [
      'times the wrong way round',
      { filter: { failedAfter: '2026-01-02T00:00:00Z', failedBefore: '2026-01-01T00:00:00Z' } },
      /failedAfter must be before failedBefore/,
    ],
    ['a time that is none', { filter: { failedAfter: 'yesterday' } }, /DateTime/],
    ['a number for a time', { filter: { failedAfter: 5 } }, /DateTime/],
    ['a time that JavaScript guesses', { filter: { failedBefore: '5' } }, /A DateTime must be a time with its offset/],
    [
      'a time without its zone',
      { filter: { failedBefore: '2026-01-01T00:00:00' } },
      /A DateTime must be a time with its offset/,
    ],
    [
      'a day that there is not',
      { filter: { failedBefore: '2026-02-31T00:00:00Z' } },
      /A DateTime must be a time with its offset/,
    ],
    ['a condition that there is not', { filter: { cause: 'x' } }, /cause/],
    ['a blank reason', { filter: { reason: '' } }, /reason must not be blank/],
  ])('refuses a list with %s', async (_, variables, message) => {
    const { body } = await system.client.graphql(list, variables)
    expect(body.errors).toMatchObject([
      { message: expect.stringMatching(message), extensions: { code: 'BAD_USER_INPUT' } },
    ])
  })

  const some = '00000000-0000-7000-8000-000000000000'
  test.each<[string, Record<string, unknown>, RegExp]>([
    ['nothing', {}, /give ids, or a filter/],
    ['ids and filter that are null', { ids: null, filter: null }, /give ids, or a filter/],
    ['ids and a filter', { ids: [some], filter: { code: 'CRASHED' } }, /ids and filter cannot be used together/],
    ['no ids', { ids: [] }, /ids is empty/],
    ['1,001 ids', { ids: Array(1_001).fill(some) }, /at most 1,000 ids may be named at once, got 1001/],
    ['an empty filter', { filter: {} }, /filter is empty; give at least one of model, code, reason, failedAfter/],
    ['a filter of nulls', { filter: { code: null, model: null } }, /filter is empty/],
    ['a code that there is not', { filter: { code: 'id_conflict' } }, /code must be one of/],
    ['a model that there is not', { filter: { model: '' } }, /model must be one of Content, got ""/],
  ])('refuses to retry and discard with %s, and in a dry run, too', async (_, which, message) => {
    for (const how of ['retryDeadLetters', 'discardDeadLetters']) {
      for (const dryRun of [false, true, undefined]) {
        const { body } = await system.client.graphql(
          `mutation ($ids: [ID!], $filter: DeadLetterFilter, $dryRun: Boolean) {
            ${how}(ids: $ids, filter: $filter, dryRun: $dryRun) { count }
          }`,
          { ...which, dryRun },
        )
        expect(body).toMatchObject({
          data: { [how]: null },
          errors: [{ message: expect.stringMatching(message), extensions: { code: 'BAD_USER_INPUT' } }],
        })
      }
    }
    expect((await page({})).totalCount).toBe(count)
  })

  test('answers the neighbours of a list that it refuses', async () => {
    const { body } = await system.client.graphql('{ deadLetters(after: "x") { totalCount } queue { deadLetters } }')
    expect(body).toMatchObject({
      data: { deadLetters: null, queue: { deadLetters: count } },
      errors: [{ path: ['deadLetters'], extensions: { code: 'BAD_USER_INPUT' } }],
    })
  })

  test('refuses an operation that counts by filters more than twice', async () => {
    const one = (n: number) => `a${n}: deadLetters(first: 0, filter: { code: "CRASHED" }) { totalCount }`
    const { body } = await system.client.graphql(`{ ${[1, 2, 3].map(one).join(' ')} }`)
    expect(body.errors[0]).toMatchObject({
      message: expect.stringContaining('200 rows at most'),
      extensions: { code: 'BAD_USER_INPUT' },
    })
  })

  test('does not serve dead letters over REST', async () => {
    for (const path of ['/dead-letters', '/deadLetters'])
      expect((await fetch(`${system.url}${path}`)).status, path).toBe(404)
  })

  const edit = `mutation ($id: ID!, $input: JSON!) {
    editDeadLetter(id: $id, input: $input) {
      __typename saveId model status duplicate acceptedAt conflicts failure { code }
    }
  }`

  test('edits one that the table rejected: it becomes the row that the operator wrote, once, with its event', async () => {
    const { client, embedded, env } = system
    const rule = embedded
      ? "CREATE TRIGGER polite BEFORE INSERT ON Content WHEN NEW.content = 'rude' BEGIN SELECT RAISE(ABORT, 'rude'); END"
      : "ALTER TABLE Content ADD CONSTRAINT polite CHECK (content <> 'rude')"
    await statement(env.DATABASE_URL!, rule)
    const id = randomUUID()
    const sse = await client.sse(`subscription { saved { content { id content createdAt } } }`)
    expect((await client.graphql(save, { id, content: 'rude' })).body.data.save).toEqual({ status: 'FAILED' })
    const [{ node }] = (await page({ filter: { code: 'REJECTED' } })).edges
    expect(node).toMatchObject({ saveId: id, input: { content: 'rude' } })
    const again = await client.graphql(edit, { id, input: node.input })
    expect(again.body.data.editDeadLetter).toMatchObject({ status: 'QUEUED' })
    await holds(async () => expect(await page({ filter: { code: 'REJECTED' } })).toMatchObject({ totalCount: 1 }))
    const { body } = await client.graphql(edit, { id: id.toUpperCase(), input: { content: 'polite' } })
    expect(body).toEqual({
      data: {
        editDeadLetter: {
          __typename: 'ContentReceipt',
          saveId: id,
          model: 'Content',
          status: 'QUEUED',
          duplicate: false,
          acceptedAt: node.acceptedAt,
          conflicts: 0,
          failure: null,
        },
      },
    })
    await holds(() =>
      expect(sse.results).toEqual([
        { data: { saved: { content: { id, content: 'polite', createdAt: node.acceptedAt } } } },
      ]),
    )
    sse.close()
    expect((await client.graphql(save, { id, content: 'polite' })).body.data.save).toEqual({ status: 'SAVED' })
    const old = await client.graphql(save, { id, content: 'rude' })
    expect(old.body.errors[0].extensions.code).toBe('ID_CONFLICT')
    const late = await client.graphql(`mutation { editDeadLetter(id: "${id}", input: { content: "late" }) { status } }`)
    expect(late.body).toMatchObject({
      data: { editDeadLetter: null },
      errors: [
        { message: expect.stringContaining('is not the id of a dead letter'), extensions: { code: 'NOT_FOUND' } },
      ],
    })
    expect((await page({})).totalCount).toBe(count)
  })

  test.each<[what: string, input: unknown, RegExp]>([
    ['without a column', {}, /^content of Content is missing$/],
    ['with null for a column', { content: null }, /^content of Content must not be null$/],
    ['with a number for a text', { content: 5 }, /^content of Content must be a string, got number$/],
    [
      'above a limit',
      { content: 'x'.repeat(65_537) },
      /^content of Content is 65537 bytes of UTF-8; at most 65536 are allowed$/,
    ],
    ['with an unknown column', { content: 'x', title: 'y' }, /^"title" is no column of Content; it has id, content$/],
    ['with an id', { content: 'x', id: ids[0] }, /^"id" is no column/],
    ['with a time', { content: 'x', createdAt: 5 }, /^createdAt of Content is set by Spillway; leave it out$/],
    ['that is a list', [{ content: 'x' }], /^input must be a JSON object with the columns by name$/],
    ['that is a text', 'content', /^input must be a JSON object/],
  ])('refuses to edit one with an input %s', async (_, input, message) => {
    const { body } = await system.client.graphql(edit, { id: ids[0], input })
    expect(body).toMatchObject({
      data: { editDeadLetter: null },
      errors: [{ message: expect.stringMatching(message), extensions: { code: 'BAD_USER_INPUT' } }],
    })
  })

  // The last one, because it changes the dead letters.
  test('retries and discards exactly what a filter matches, after a dry run that says the same', async () => {
    const { client } = system
    const window = (from: number, to?: number) => ({
      failedAfter: times[from],
      ...(to === undefined ? {} : { failedBefore: times[to] }),
    })
    const matching = (from: number, to = count) =>
      ids.filter((_, n) => times[n]! >= times[from]! && (to === count || times[n]! < times[to]!))
    const gone = matching(5)
    const discarded = { count: gone.length, saveIds: gone }
    expect(await client.changeDeadLetters('discard', { filter: window(5) }, true)).toEqual(discarded)
    expect(idsOf(await page({}))).toEqual(newestFirst)
    expect(await client.changeDeadLetters('discard', { filter: window(5) })).toEqual(discarded)
    expect(idsOf(await page({}))).toEqual(newestFirst.filter((id) => !gone.includes(id)))

    const back = matching(2, 5)
    const retried = { count: back.length, saveIds: back }
    for (const id of back) await removeRow(system.env.DATABASE_URL!, id)
    expect(await client.changeDeadLetters('retry', { filter: window(2, 5) }, true)).toEqual(retried)
    expect(await client.changeDeadLetters('retry', { filter: window(2, 5) })).toEqual(retried)
    await holds(async () => {
      const rows = new Map((await client.contents()).map(({ id, content }) => [id, content]))
      expect(ids.map((id) => rows.get(id))).toEqual(
        ids.map((id, n) => (back.includes(id) ? `content ${n} ` : 'in the way')),
      )
    })
    // What still is in conflict fails again, once, and is listed as the newest.
    const { edges } = await page({})
    const again = await client.changeDeadLetters('retry', { filter: { code: 'ID_CONFLICT' } })
    expect(again.count).toBe(edges.length)
    await holds(async () => expect((await client.queue()).depth).toBe(0))
    const after = await page({})
    expect(after.totalCount).toBe(edges.length)
    const cursors = new Set(edges.map(({ cursor }: Json) => cursor))
    for (const { cursor } of after.edges) expect(cursors.has(cursor)).toBe(false)
  })
})
