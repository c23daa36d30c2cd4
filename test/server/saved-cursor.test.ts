/** P11: the savedCursor of a page, in each way that a client can ask for one. test/live/snapshot.test.ts follows pages under load. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { formatCursor } from '../../src/events/events.ts'
import { client } from '../harness/client.ts'
import { contentRow } from '../harness/contents.ts'
import { savedEvent } from '../harness/events.ts'
import { holds } from '../harness/eventually.ts'
import { type ModelServer, serveModels } from '../harness/model-server.ts'
import { PageReader, pageWays } from '../harness/pages.ts'
import { SseClient } from '../harness/sse.ts'
import { serveTwoWays, type TwoWays } from '../harness/two-ways.ts'

const savedQuery = 'subscription ($after: String) { saved(after: $after) { content { id } } }'

/** Rows without events, as if another process had saved them. */
async function insert({ app, store }: TwoWays, contents: readonly string[]): Promise<void> {
  await store.insert(
    app.models.get('Content')!,
    contents.map((content) => contentRow(content)),
  )
  await app.cache.invalidate(['Content'])
}

describe('The savedCursor of a page', () => {
  let ways: TwoWays
  let pages: PageReader
  beforeAll(async () => {
    ways = await serveTwoWays()
    pages = new PageReader(ways.fast)
  })
  beforeEach(async () => {
    await ways.app.follower.end()
  })
  afterAll(async () => {
    await pages?.close()
    await ways?.close()
  })

  const end = async () => formatCursor({ position: await ways.events.tail(), index: 0 })

  /** Appends an event to the log, as a worker that saves a row of another list does, and waits until this process knows of it. */
  async function append(): Promise<string> {
    const row = contentRow('elsewhere')
    await ways.events.append([[savedEvent('elsewhere', row)]])
    const last = await end()
    await holds(() => expect(ways.app.savedCursor.now).toBe(last))
    return row.id
  }

  test.each(pageWays)('is the end of the events log, and a subscription goes on from there (%s)', async (way) => {
    await append()
    const last = await end()
    // Seen twice, a document is on the fast path; its third response is a kept one.
    for (let i = 0; i < 4; i++) expect(await pages.read(way)).toMatchObject({ savedCursor: last })
    const ids = [await append(), await append()]
    const stream = await SseClient.open(ways.fast, savedQuery, { after: last })
    await holds(() => expect(stream.results.map(({ data }) => data.saved.content.id)).toEqual(ids))
    stream.close()
  })

  test.each(pageWays)('is taken before the page is read (%s)', async (way) => {
    const { store } = ways
    const read = store.page
    store.page = async (...args) => {
      const rows = await read.apply(store, args)
      await append()
      return rows
    }
    try {
      for (let i = 0; i < 4; i++) {
        await insert(ways, ['new'])
        const before = await end()
        expect(await pages.read(way)).toMatchObject({ savedCursor: before })
        expect(await end()).not.toBe(before)
      }
    } finally {
      store.page = read
    }
  })

  test.each(pageWays)('is taken before the version of a kept page is looked up (%s)', async (way) => {
    for (let i = 0; i < 4; i++) await pages.read(way)
    const { cache } = ways.app
    const { get, version } = cache
    cache.get = async (...keys) => {
      const found = await get.apply(cache, keys)
      await append()
      return found
    }
    cache.version = async (keys) => {
      const found = await version.call(cache, keys)
      await append()
      return found
    }
    try {
      const before = await end()
      expect(await pages.read(way)).toMatchObject({ savedCursor: before })
      expect(await end()).not.toBe(before)
    } finally {
      Object.assign(cache, { get, version })
    }
  })

  test.each(pageWays)('moves on with the log although the page stays the same (%s)', async (way) => {
    await insert(ways, ['kept'])
    for (let i = 0; i < 4; i++) await pages.read(way)
    const { store } = ways
    const read = store.page
    let reads = 0
    store.page = (...args) => {
      reads += 1
      return read.apply(store, args)
    }
    try {
      const before = await pages.read(way)
      for (let i = 0; i < 3; i++) {
        await append()
        const after = await pages.read(way)
        expect(after).toEqual({ ...before, savedCursor: await end() })
        expect(after.savedCursor! > before.savedCursor!).toBe(true)
      }
      expect(reads).toBe(0)
    } finally {
      store.page = read
    }
  })

  test('is the same for all pages of an operation, and does not depend on where a page is in its list', async () => {
    await insert(ways, ['row 1', 'row 2', 'row 3'])
    const fields = 'savedCursor edges { cursor }'
    const { data } = await client(ways.plain).graphql(`{ contents { ${fields} } }`)
    const cursor = JSON.stringify(data.contents.edges[1].cursor)
    const document = `{ a: contents(first: 1) { ${fields} } b: contents(after: ${cursor}) { ${fields} } c: contents(before: ${cursor}) { ${fields} }
      d: contents(last: 2) { ${fields} } e: contents(first: 0) { ${fields} } }`
    for (const url of [ways.plain, ways.fast, ways.fast, ways.fast, ways.fast]) {
      await append()
      const last = await end()
      const { data: answer } = await client(url).graphql(document)
      expect(Object.values<{ savedCursor: string }>(answer).map(({ savedCursor }) => savedCursor)).toEqual(
        Array(5).fill(last),
      )
    }
  })

  test('is sent to every reader of a kept page, whatever the others got', async () => {
    for (let i = 0; i < 4; i++) await pages.read('GraphQL by POST')
    for (let i = 0; i < 5; i++) {
      await append()
      const last = await end()
      // At once, so that they share the bytes.
      const read = await Promise.all(Array.from({ length: 20 }, () => pages.read('GraphQL by POST')))
      expect(new Set(read.map(({ savedCursor }) => savedCursor))).toEqual(new Set([last]))
    }
  })

  test('is sent as written where rows have texts like it', async () => {
    const last = await end()
    await insert(ways, [`"${last}"`, '"savedCursor":"', last])
    const document = '{ contents(first: 3) { savedCursor edges { node { content } } } }'
    const expected = await client(ways.plain).graphql(document)
    for (let i = 0; i < 4; i++) expect((await client(ways.fast).graphql(document)).body).toEqual(expected.body)
  })
})

describe('While this process has not read the events log yet', () => {
  let ways: TwoWays
  beforeAll(async () => {
    ways = await serveTwoWays({ follows: false })
    await insert(ways, ['row'])
  })
  afterAll(() => ways?.close())

  const page = '{ contents { edges { node { content } } } }'
  const expected = { data: { contents: { edges: [{ node: { content: 'row' } }] } } }
  const withCursor =
    '{ followed: contents { savedCursor edges { node { content } } } contents { edges { node { content } } } }'

  test('a page without savedCursor is returned, and REST returns null in its place', async () => {
    for (const url of [ways.fast, ways.plain]) {
      for (let i = 0; i < 4; i++) expect((await client(url).graphql(page)).body).toEqual(expected)
      for (let i = 0; i < 2; i++)
        expect(await (await fetch(url)).json()).toEqual({
          results: [expect.anything()],
          next: null,
          saved_cursor: null,
        })
    }
  })

  test('a page with savedCursor waits for the log, then fails with QUEUE_UNAVAILABLE beside pages without', async () => {
    for (const url of [ways.plain, ways.fast, ways.fast, ways.fast]) {
      const { data, errors } = await client(url).graphql(withCursor)
      expect(data).toEqual({ followed: null, ...expected.data })
      expect(errors).toMatchObject([{ path: ['followed'], extensions: { code: 'QUEUE_UNAVAILABLE' } }])
    }
    const skipped = `query ($no: Boolean = false) { contents { savedCursor @include(if: $no) edges { node { content } } } }`
    for (const url of [ways.plain, ways.fast, ways.fast, ways.fast])
      expect((await client(url).graphql(skipped)).body).toEqual(expected)
  }, 30_000)

  test('a page with savedCursor is read when the log has been read', async () => {
    const { rows } = ways.app
    const read = rows.page
    let known: string | undefined
    rows.page = (...args) => {
      known = ways.app.savedCursor.now
      return read.apply(rows, args)
    }
    try {
      const waiting = client(ways.fast).graphql('{ contents { savedCursor } }')
      ways.app.follower.start()
      const { data } = await waiting
      expect(data).toEqual({
        contents: { savedCursor: formatCursor({ position: await ways.events.tail(), index: 0 }) },
      })
      expect(known).toBe(data.contents.savedCursor)
    } finally {
      rows.page = read
    }
  })
})

describe('The savedCursor of a page of a model with visibleTo, narrowed', () => {
  const tenants = ['red', 'blue']
  let server: ModelServer
  beforeAll(async () => {
    server = await serveModels()
    await server.app.follower.end()
  })
  afterAll(() => server?.close())

  const save = async (tenant: string, topic: number): Promise<string> => {
    const query = 'mutation ($input: MemoInput!) { saveMemo(input: $input, waitMs: 20000) { saveId status } }'
    const { data } = await (await server.as({ tenant })).graphql(query, { input: { topic, text: 'a memo' } })
    expect(data.saveMemo.status).toBe('SAVED')
    return data.saveMemo.saveId
  }

  test.each(pageWays.filter((way) => way !== 'REST'))(
    "is followed by the client's own rows of that narrowing, and kept pages are its own (%s)",
    async (way) => {
      const readers = await Promise.all(
        tenants.map(async (tenant) => new PageReader(server.fast, await server.token({ tenant }))),
      )
      const read = () =>
        Promise.all(readers.map((reader) => reader.read(way, { list: 'memos', args: { first: 1, topic: 1 } })))
      // The last of these are kept pages; the memo of another topic leaves them valid.
      for (let i = 0; i < 4; i++) await read()
      await save('red', 2)
      const before = await read()
      const saved = [await save('red', 1), await save('blue', 1)]
      for (const [i, tenant] of tenants.entries()) {
        const query = 'subscription ($after: String) { memoSaved(topic: 1, after: $after) { memo { id } } }'
        const authorization = `Bearer ${await server.token({ tenant })}`
        const stream = await SseClient.open(server.plain, query, { after: before[i]!.savedCursor }, { authorization })
        await holds(() => expect(stream.results.map(({ data }) => data.memoSaved.memo.id)).toEqual([saved[i]]))
        stream.close()
      }
      const after = await read()
      expect(after.map(({ keys }) => keys.map(({ id }) => id))).toEqual(saved.map((id) => [id]))
      expect(after[0]!.savedCursor! > before[0]!.savedCursor!).toBe(true)
      await Promise.all(readers.map((reader) => reader.close()))
    },
  )
})
