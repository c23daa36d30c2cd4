/**
 * P5: once a `saved` event is delivered, `contents` shows that content, whichever API process answers. Subscribers at each of two
 * processes ask the other one at once, over GraphQL (the fast path, with its kept responses) and over GET /, while saves go on.
 */
import { Agent, request } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import type { SpillwayProcess } from '../harness/process.ts'
import { SseClient } from '../harness/sse.ts'
import { Stack } from '../harness/stack.ts'

const page = JSON.stringify({
  query: '{ contents(first: 100) { edges { node { id createdAt } } } }',
})
const subscription = 'subscription { saved { content { id createdAt } } }'

/** [createdAt, id]: what a page is sorted by, newest first. */
type Key = readonly [string, string]

let stack: Stack | undefined
const agent = new Agent({ keepAlive: true, maxSockets: 64 })

afterEach(async () => {
  await stack?.stop()
  stack = undefined
})

interface Tally {
  /** A page that had to show the content, and did. */
  shown: number
  /** A page that had to, and did not. */
  stale: string[]
  /** A page of contents that are all newer: it says nothing. */
  passedBy: number
  /** The cache or the server could not be asked. */
  refused: number
}

describe('P5: after a saved event, every process returns that row', () => {
  test('with the cache on Redis', async () => {
    stack = await Stack.start({ apis: 2, workers: 2 })
    const tally = await readAfterEvents(stack, 2_000)
    expect(tally.stale).toEqual([])
    expect(tally.refused).toBe(0)
  }, 300_000)

  test('with the cache in memory, its version beside the queue', async () => {
    stack = await Stack.start({ apis: 2, workers: 2, env: { CACHE_URL: 'memory:' } })
    const tally = await readAfterEvents(stack, 2_000)
    expect(tally.stale).toEqual([])
    expect(tally.refused).toBe(0)
  }, 300_000)

  test('with the cache killed and restarted in the middle, twice', async () => {
    stack = await Stack.start({ apis: 2, workers: 2, env: { CACHE_TTL_MS: '1000' } })
    const { cache } = stack
    const tally = await readAfterEvents(stack, 2_000, async (checked) => {
      for (const due of [400, 1_200]) {
        await holds(() => expect(checked()).toBeGreaterThan(due), { timeoutMs: 40_000, progress: checked })
        await cache.stop('SIGKILL')
        await cache.restart()
      }
    })
    expect(tally.stale).toEqual([])
    // Reads go to the store while the cache is away.
    expect(tally.refused).toBe(0)
  }, 300_000)
})

async function readAfterEvents(
  stack: Stack,
  tries: number,
  meanwhile: (checked: () => number) => Promise<void> = async () => {},
): Promise<Tally> {
  const tally: Tally = { shown: 0, stale: [], passedBy: 0, refused: 0 }
  const checked = () => tally.shown + tally.stale.length
  const [one, other] = stack.apis as [SpillwayProcess, SpillwayProcess]
  const running = new Set<Promise<void>>()
  let over = false
  const subscribe = async (from: SpillwayProcess, to: SpillwayProcess) => {
    const client = await SseClient.open(from.url!, subscription)
    let count = 0
    client.onFrame = ({ event, data }) => {
      client.frames.length = 0
      if (event !== 'next' || over) return
      count += 1
      const { id, createdAt } = JSON.parse(data).data.saved.content
      const check = ask(to, count % 2 === 0, [createdAt, id], tally).finally(() => running.delete(check))
      running.add(check)
    }
    return client
  }
  const clients = await Promise.all([subscribe(one, other), subscribe(other, one)])
  // Seen twice, a document is on the fast path.
  for (const api of [one, other]) for (let i = 0; i < 3; i++) await pageOf(api, true)
  stack.write(6)
  await Promise.all([
    meanwhile(checked),
    holds(() => expect(checked()).toBeGreaterThanOrEqual(tries), { timeoutMs: 40_000, progress: checked }),
  ])
  over = true
  await stack.stopWriting()
  await Promise.all(running)
  for (const client of clients) client.close()
  console.log(
    `${tally.shown} shown, ${tally.stale.length} stale, ${tally.passedBy} passed by, ${tally.refused} refused`,
  )
  return tally
}

async function ask(api: SpillwayProcess, overGraphQL: boolean, [createdAt, id]: Key, tally: Tally): Promise<void> {
  const keys = await pageOf(api, overGraphQL)
  const last = keys?.at(-1)
  if (!keys || !last) tally.refused += 1
  else if (keys.some((key) => key[1] === id)) tally.shown += 1
  else if (keys.length === 100 && (last[0] > createdAt || (last[0] === createdAt && last[1] > id))) tally.passedBy += 1
  else tally.stale.push(`${overGraphQL ? 'GraphQL' : 'GET /'}: ${id} of ${createdAt}; the newest shown is ${keys[0]}`)
}

async function pageOf(api: SpillwayProcess, overGraphQL: boolean): Promise<Key[] | undefined> {
  const { status, body } = await send(api, overGraphQL)
  if (status !== 200) return undefined
  if (!overGraphQL) return body.results.map((row: { id: string; created_at: string }): Key => [row.created_at, row.id])
  return body.data?.contents.edges.map(
    ({ node }: { node: { id: string; createdAt: string } }): Key => [node.createdAt, node.id],
  )
}

// biome-ignore lint/suspicious/noExplicitAny: as Json in client.ts.
function send(api: SpillwayProcess, overGraphQL: boolean): Promise<{ status: number; body: any }> {
  return new Promise((resolve, reject) => {
    const url = `${api.url}${overGraphQL ? '/graphql' : '/?first=100'}`
    const headers = { accept: 'application/json', ...(overGraphQL && { 'content-type': 'application/json' }) }
    const sent = request(url, { agent, method: overGraphQL ? 'POST' : 'GET', headers }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () =>
        resolve({ status: response.statusCode!, body: JSON.parse(String(Buffer.concat(chunks))) }),
      )
    })
    sent.on('error', reject)
    sent.end(overGraphQL ? page : undefined)
  })
}
