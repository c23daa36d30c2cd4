/** The clients that people use, unchanged: graphql-sse, graphql-ws, urql over both, a browser's EventSource, and the lines of docs/browser.md. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { Client, fetchExchange, gql, subscriptionExchange } from '@urql/core'
import { createClient as createSseClient } from 'graphql-sse'
import { createClient as createWsClient } from 'graphql-ws'
import type { Browser, Page } from 'playwright-core'
import { afterEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { launchBrowser } from '../harness/browser.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { Stack } from '../harness/stack.ts'
import { cursorNow } from '../harness/subscriber.ts'

const savedQuery = 'subscription ($after: String) { saved(after: $after) { cursor content { id content } } }'
/** As they stand, but for `export`: a page's own script has no exports. */
const documentedLines = readFileSync(new URL('../harness/ten-lines.js', import.meta.url), 'utf8').replaceAll(
  'export ',
  '',
)

interface Saved {
  saved: { cursor: string; content: { id: string } }
}

let stack: Stack
let browser: Browser | undefined
let dispose: (() => unknown)[] = []

afterEach(async () => {
  for (const each of dispose) await each()
  await browser?.close()
  await stack.stop()
  dispose = []
  browser = undefined
})

const setUps = [
  ['redis + mariadb', { apis: 1, workers: 1 }],
  ['embedded', { embedded: true }],
] as const

/** Saves before, while and after the server is killed and started again on the same port; the ids, in the end. */
async function throughARestart(meanwhile: (port: number) => Promise<void> = async () => {}): Promise<string[]> {
  const [api] = stack.apis
  const port = Number(new URL(api!.url!).port)
  stack.write(2)
  await stack.more(100)
  await stack.kill(api!)
  await meanwhile(port)
  await stack.startApi({ PORT: String(port) })
  await stack.more(100)
  await stack.stopWriting()
  await stack.drained()
  return [...(await stack.rows()).keys()]
}

/** Each at least once: what a worker had announced when it was killed, it announces again. */
async function expectAll(seen: () => string[] | Promise<string[]>, ids: readonly string[]): Promise<void> {
  let got: string[] = []
  const look = async () => {
    got = [...new Set(await seen())]
    expect(got.sort()).toEqual([...ids].sort())
  }
  await holds(look, { timeoutMs: 20_000, progress: () => got.length })
}

/** What a client asks; when it comes back, it asks it again, from where it is then. */
function request(after: string) {
  const seen: string[] = []
  const asked = { query: savedQuery, variables: { after } }
  const next = ({ data }: { data?: Saved | null }) => {
    if (!data) return
    asked.variables.after = data.saved.cursor
    seen.push(data.saved.content.id)
  }
  return { seen, asked, next }
}

const soon = () => new Promise<void>((resolve) => setTimeout(resolve, 100))
const quickly = { retryAttempts: 1_000, retry: soon }

describe.each(setUps)('Spillway (%s)', (_, options) => {
  test('sends graphql-sse every event through a restart', async () => {
    stack = await Stack.start(options)
    const url = stack.apis[0]!.url!
    const client = createSseClient({ url: `${url}/graphql`, ...quickly })
    dispose.push(() => client.dispose())
    const { seen, asked, next } = request(await cursorNow(url))
    let end: unknown
    client.subscribe<Saved>(asked, {
      next,
      error: (error) => {
        end = error
      },
      complete: () => {
        end = 'complete'
      },
    })
    await expectAll(() => seen, await throughARestart())
    expect(end).toBeUndefined()
  }, 180_000)

  test('sends graphql-ws every event through a restart', async () => {
    stack = await Stack.start(options)
    const url = stack.apis[0]!.url!
    const client = createWsClient({
      url: `${url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      retryAttempts: 1_000,
      retryWait: soon,
      shouldRetry: () => true,
    })
    dispose.push(() => client.dispose())
    const { seen, asked, next } = request(await cursorNow(url))
    let end: unknown
    client.subscribe<Saved>(asked, {
      next: (result) => next(result as { data?: Saved }),
      error: (error) => {
        end = error
      },
      complete: () => {
        end = 'complete'
      },
    })
    await expectAll(() => seen, await throughARestart())
    expect(end).toBeUndefined()
  }, 180_000)
})

describe('urql', () => {
  const forwards = {
    'graphql-sse': (url: string) => {
      const client = createSseClient({ url: `${url}/graphql`, ...quickly })
      dispose.push(() => client.dispose())
      return client
    },
    'graphql-ws': (url: string) => {
      const client = createWsClient({
        url: `${url.replace('http', 'ws')}/graphql`,
        webSocketImpl: WebSocket,
        retryAttempts: 1_000,
        retryWait: soon,
        shouldRetry: () => true,
      })
      dispose.push(() => client.dispose())
      return client
    },
  }

  test.each(['graphql-sse', 'graphql-ws'] as const)(
    'over %s saves, reads and follows through a restart',
    async (wire) => {
      stack = await Stack.start({ embedded: true })
      const url = stack.apis[0]!.url!
      const transport = forwards[wire](url)
      const client = new Client({
        url: `${url}/graphql`,
        preferGetMethod: false,
        exchanges: [
          fetchExchange,
          subscriptionExchange({
            forwardSubscription: (operation) => {
              const asked = {
                query: operation.query!,
                variables: { ...operation.variables } as Record<string, unknown>,
              }
              return {
                subscribe: (sink) => ({
                  unsubscribe: transport.subscribe(asked, {
                    ...sink,
                    next: (result: never) => {
                      const { data } = result as { data?: Saved }
                      if (data) asked.variables.after = data.saved.cursor
                      sink.next(result)
                    },
                  } as never),
                }),
              }
            },
          }),
        ],
      })
      const seen: string[] = []
      const subscription = client
        .subscription<Saved>(gql(savedQuery), { after: await cursorNow(url) })
        .subscribe(({ data }) => data && seen.push(data.saved.content.id))
      dispose.push(() => subscription.unsubscribe())

      const mutation = gql('mutation ($content: String!) { save(content: $content, waitMs: 20000) { saveId status } }')
      const { data, error } = await client.mutation(mutation, { content: 'by urql' }).toPromise()
      expect(error).toBeUndefined()
      expect(data.save.status).toBe('SAVED')
      const query = gql(
        'query ($id: ID!) { content(id: $id) { content } contents(first: 1) { edges { node { id } } } }',
      )
      // More than once: first through Yoga, then on the fast path.
      for (let i = 0; i < 3; i++) {
        const read = await client.query(query, { id: data.save.saveId }).toPromise()
        expect(read.error).toBeUndefined()
        expect(read.data.content.content).toBe('by urql')
        expect(read.data.contents.edges).toEqual([
          expect.objectContaining({ node: expect.objectContaining({ id: data.save.saveId }) }),
        ])
      }
      const refused = await client.mutation(mutation, { content: '\ud800' }).toPromise()
      expect(refused.error?.graphQLErrors[0]?.extensions.code).toBe('BAD_USER_INPUT')
      await expectAll(() => seen, await throughARestart())
    },
    180_000,
  )

  test('with its own Server-Sent Events (fetchSubscriptions) gets every event', async () => {
    stack = await Stack.start({ embedded: true })
    const url = stack.apis[0]!.url!
    const client = new Client({
      url: `${url}/graphql`,
      preferGetMethod: false,
      fetchSubscriptions: true,
      exchanges: [fetchExchange],
    })
    const seen: string[] = []
    const subscription = client
      .subscription<Saved>(gql(savedQuery), { after: await cursorNow(url) })
      .subscribe(({ data }) => data && seen.push(data.saved.content.id))
    stack.write(2)
    await stack.more(50)
    await stack.stopWriting()
    await stack.drained()
    await expectAll(() => seen, [...(await stack.rows()).keys()])
    subscription.unsubscribe()
  }, 180_000)
})

describe('a browser', () => {
  /** A page of the API's own, so that nothing is cross-origin. */
  async function open(url: string): Promise<Page> {
    browser = await launchBrowser()
    const page = await browser.newPage()
    await page.goto(`${url}/livez`)
    return page
  }

  const seenIn = (page: Page) => page.evaluate('window.seen') as Promise<string[]>

  test("that opens an EventSource on a URL reconnects with the last event's id and misses nothing", async () => {
    stack = await Stack.start({ embedded: true })
    const url = stack.apis[0]!.url!
    const page = await open(url)
    await page.evaluate(`
      window.seen = []
      const query = 'subscription { saved { content { id } } }'
      window.events = new EventSource('/graphql?query=' + encodeURIComponent(query))
      events.addEventListener('next', ({ data }) => seen.push(JSON.parse(data).data.saved.content.id))
      new Promise((resolve) => { events.onopen = resolve })`)
    await expectAll(() => seenIn(page), await throughARestart())
  }, 180_000)

  test('whose EventSource had no event yet reconnects with the cursor of its start and misses nothing', async () => {
    stack = await Stack.start({ apis: 1, workers: 1 })
    const [api] = stack.apis
    const port = new URL(api!.url!).port
    const page = await open(api!.url!)
    await page.evaluate(`
      window.seen = []
      window.events = new EventSource('/graphql?query=' + encodeURIComponent('subscription { saved { content { id } } }'))
      events.addEventListener('next', ({ data }) => seen.push(JSON.parse(data).data.saved.content.id))
      new Promise((resolve) => { events.onopen = resolve })`)
    await stack.kill(api!)
    // Saved by way of another process, which the page knows nothing of.
    const other = await stack.startApi()
    await stack.save('01a21300-0000-7000-8000-000000000001', 'while it was away')
    await stack.drained()
    await stack.kill(other)
    await stack.startApi({ PORT: port })
    await expectAll(() => seenIn(page), ['01a21300-0000-7000-8000-000000000001'])
  }, 180_000)

  test('with the lines of docs/browser.md shows a page, and misses nothing after it through a restart and a proxy that answers 502', async () => {
    stack = await Stack.start({ embedded: true })
    const url = stack.apis[0]!.url!
    const page = await open(url)
    await stack.save('01a21300-0000-7000-8000-000000000001', 'before')
    await stack.drained()
    // What is saved between the page and the stream comes by the stream.
    const meanwhile = Array.from({ length: 20 }, (_, i) => stack.save(randomUUID(), `meanwhile ${i}`))
    await page.evaluate(`${documentedLines}
      window.seen = []
      window.pages = 0
      const onPage = (rows) => (pages++, seen.push(...rows.map(({ id }) => id)))
      show(location.origin, onPage, ({ id }) => seen.push(id))`)
    await Promise.all(meanwhile)
    const ids = await throughARestart(async (port) => {
      // To a 502, EventSource gives up for good.
      let asked = 0
      const proxy = createServer((_request, response) => {
        asked += 1
        response.writeHead(502).end()
      })
      await new Promise<void>((resolve) => proxy.listen(port, '127.0.0.1', resolve))
      await eventually(() => asked > 0, { timeoutMs: 15_000 })
      proxy.closeAllConnections()
      await new Promise((resolve) => proxy.close(resolve))
    })
    await expectAll(() => seenIn(page), ids)
    expect(await page.evaluate('window.pages')).toBe(1)
  }, 180_000)

  test('with the lines of docs/browser.md reads a page again when its cursor has expired', async () => {
    stack = await Stack.start({ embedded: true })
    await stack.save('01a21300-0000-7000-8000-000000000001', 'before')
    await stack.drained()
    const page = await open(stack.apis[0]!.url!)
    // The first page is one of long ago.
    await page.evaluate(`${documentedLines}
      window.seen = []
      window.pages = 0
      const original = window.fetch
      window.fetch = async (url) => {
        const text = await (await original(url)).text()
        return new Response(pages > 0 ? text : text.replace(/"savedCursor":"[^.]*/, '"savedCursor":"anotherEpoch'))
      }
      show(location.origin, (rows) => (pages++, seen.push(...rows.map(({ id }) => id))), ({ id }) => seen.push(id))`)
    await holds(async () => expect(await page.evaluate('window.pages')).toBe(2))
    await stack.save('01a21300-0000-7000-8000-000000000002', 'after')
    await expectAll(
      () => seenIn(page),
      [1, 2].map((n) => `01a21300-0000-7000-8000-00000000000${n}`),
    )
    expect(await page.evaluate('window.pages')).toBe(2)
  }, 180_000)

  test('with the lines of docs/browser.md reports an expired cursor once', async () => {
    stack = await Stack.start({ embedded: true })
    const page = await open(stack.apis[0]!.url!)
    await page.evaluate(`${documentedLines}
      window.seen = []
      window.expired = 0
      follow(location.origin, 'anotherEpoch.00000000000001.000000.000000', ({ id }) => seen.push(id), () => expired++)`)
    await holds(async () => expect(await page.evaluate('window.expired')).toBe(1))
    // Longer than a browser waits before it comes back.
    await new Promise((resolve) => setTimeout(resolve, 4_000))
    expect(await page.evaluate('window.expired')).toBe(1)
    expect(await seenIn(page)).toEqual([])
  }, 180_000)
})
