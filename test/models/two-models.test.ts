/**
 * P1, P2, P3, P4, P5 and P8 over two models at once, one of which refers to the other, while API and worker processes are killed (SIGKILL)
 * and started again.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Spillway, setUps } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { cursorNow, Subscriber } from '../harness/subscriber.ts'
import type { Tree } from '../harness/tree.ts'
import { treeWithComments } from './comments.ts'
import { bootTree } from './every.ts'

let tree: Tree
beforeAll(async () => {
  tree = await treeWithComments()
}, 180_000)
afterAll(() => tree?.[Symbol.asyncDispose]())

/** What was sent: id -> row. */
type Sent = Map<string, Json>

const models = {
  posts: { fields: 'id title author', saved: 'postSaved', one: 'post' },
  comments: { fields: 'id postId body rating author', saved: 'commentSaved', one: 'comment' },
}
type List = keyof typeof models
const lists = Object.keys(models) as List[]

describe.each(setUps)('Two models under kill -9 (%s)', (setUp) => {
  let system: Spillway
  const sent: Record<List, Sent> = { posts: new Map(), comments: new Map() }
  beforeAll(async () => {
    const env = { AUTH_DEV_CLAIMS: '{"sub":"dev"}' }
    system = await bootTree(tree, setUp, { env, apis: setUp === 'embedded' ? 1 : 2, intervals: { reclaimMs: 2_000 } })
  }, 120_000)
  afterAll(() => system?.stop())

  /** Until more rows of both models were acknowledged. */
  async function more(): Promise<void> {
    const before = lists.map((list) => sent[list].size)
    await holds(() => lists.forEach((list, i) => void expect(sent[list].size).toBeGreaterThan(before[i]! + 10)), {
      timeoutMs: 60_000,
    })
  }

  const anyUrl = () => system.apis[Math.floor(Math.random() * system.apis.length)]?.url
  const post = (list: List, row: Json) =>
    fetch(`${anyUrl()}/${list}`, {
      method: 'POST',
      body: JSON.stringify(row),
      signal: AbortSignal.timeout(5_000),
    })

  /** Saves a row again and again until it is acknowledged. */
  async function save(list: List, row: Json): Promise<void> {
    for (;;) {
      const status = await post(list, row).then(
        (response) => response.status,
        () => 503,
      )
      if (status === 202) break
      expect(status).toBe(503)
      await sleep(20)
    }
    sent[list].set(row.id, { ...row, author: 'dev' })
  }

  async function write(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const postId = randomUUID()
      const comments = [1, 2, 3].map((rating) => ({
        id: randomUUID(),
        postId,
        body: `a comment 🙂\0 ${randomUUID()}`,
        rating,
      }))
      // A comment may come before its post.
      await Promise.all([
        ...comments.map((comment) => save('comments', comment)),
        save('posts', { id: postId, title: `post ${postId}` }),
      ])
    }
  }

  test('each acknowledged row is saved once as it was sent, announced in one order, and readable after its event (P1–P5, P8)', async () => {
    const start = await cursorNow(system.url)
    const unreadable: string[] = []
    const reads: Promise<void>[] = []
    const subscribers = lists.flatMap((list) => {
      const { saved, one } = models[list]
      const feed = {
        query: `subscription ($after: String) { ${saved}(after: $after) { cursor ${one} { id } } }`,
        read: (data: Json) => ({ cursor: data[saved].cursor, id: data[saved][one].id }),
      }
      return (['SSE', 'WebSocket'] as const).map((wire) => {
        const subscriber = new Subscriber(wire, start, anyUrl, feed)
        // P5, of some of the events: the list of whichever process answers has the row.
        let count = 0
        subscriber.onEvent = (id) => {
          count += 1
          const url = count % 10 === 1 ? anyUrl() : undefined
          if (url) reads.push(isListed(url, list, id).then((is) => void (is || unreadable.push(id))))
        }
        return subscriber.start()
      })
    })

    const writing = new AbortController()
    const writers = Array.from({ length: 4 }, () => write(writing.signal))
    for (const victim of setUp === 'embedded' ? ['api'] : ['worker', 'api', 'worker']) {
      await more()
      await system.kill(victim === 'api' ? system.apis[0]! : system.workers[0]!)
      await (victim === 'api' ? system.startApi() : system.startWorker())
    }
    await more()
    writing.abort()
    await Promise.all(writers)

    const announced = () => subscribers.map(({ ids }) => ids.size)
    const of = (list: List) => subscribers.slice(list === 'posts' ? 0 : 2, list === 'posts' ? 2 : 4)
    await holds(
      () => {
        for (const list of lists)
          for (const { ids } of of(list)) expect([...sent[list].keys()].filter((id) => !ids.has(id))).toEqual([])
      },
      { timeoutMs: 30_000, progress: () => announced().join() },
    )
    for (const list of lists) {
      const [first, second] = of(list)
      await holds(() => expect(first!.seen.length).toBe(second!.seen.length))
      expect(first!.seen).toEqual(second!.seen)
    }
    await Promise.all(subscribers.map((subscriber) => subscriber.stop()))
    expect(subscribers.flatMap(({ faults }) => faults)).toEqual([])
    await Promise.all(reads)
    expect(unreadable).toEqual([])

    for (const list of lists) {
      const rows = await all(list)
      // A save whose answer was lost with its process may be a row, too; it was sent again, so that its id is known.
      expect(rows.length).toBe(sent[list].size)
      for (const row of rows) expect(row).toEqual(sent[list].get(row.id))
    }
    const { data } = await system.client.graphql('{ queue { depth deadLetters } }')
    expect(data.queue).toEqual({ depth: 0, deadLetters: 0 })
  }, 120_000)

  test('a retry of each row is a duplicate, whichever process answers (P3)', async () => {
    const before = await system.client.graphql('{ queue { deadLetters } }')
    for (const list of lists) {
      const rows = [...sent[list].values()].slice(-20)
      for (const { author, ...row } of rows) expect((await post(list, row)).status).toBe(202)
      const { id, author, ...row } = rows[0]
      expect(author).toBe('dev')
      const other = list === 'posts' ? { ...row, title: 'another' } : { ...row, body: 'another' }
      expect((await post(list, { id, ...other })).status).toBe(409)
      // An id names one row of one model.
      const elsewhere = list === 'posts' ? { postId: id, body: 'a' } : { title: 'a' }
      expect((await post(list === 'posts' ? 'comments' : 'posts', { id, ...elsewhere })).status).toBe(409)
    }
    await holds(async () => expect((await system.client.queue()).depth).toBe(0))
    for (const list of lists) expect((await all(list)).length).toBe(sent[list].size)
    expect(before.data.queue.deadLetters).toBe(0)
  })

  async function isListed(url: string, list: List, id: string): Promise<boolean> {
    // Each narrowing has cached pages of its own.
    const narrowed = list === 'comments' && Math.random() < 0.5 ? ', author: "dev"' : ''
    const body = JSON.stringify({
      query: `{ ${list}(first: 100${narrowed}) { edges { node { id } } } ${models[list].one}(id: "${id}") { id } }`,
    })
    const headers = { 'content-type': 'application/json' }
    const answer: Json = await fetch(`${url}/graphql`, { method: 'POST', headers, body }).then(
      (response) => response.json(),
      () => undefined,
    )
    // The process was killed, or cannot read just now.
    if (!answer?.data?.[list]) return true
    const listed = answer.data[list].edges.map(({ node }: Json) => node.id)
    return listed.includes(id) || (listed.length === 100 && answer.data[models[list].one] !== null)
  }

  async function all(list: List): Promise<Json[]> {
    const rows: Json[] = []
    let after: string | null = null
    do {
      const query = `query ($after: String) { ${list}(first: 100, after: $after) { edges { node { ${models[list].fields} } } pageInfo { hasNextPage endCursor } } }`
      const { data, errors } = await system.client.graphql(query, { after })
      expect(errors).toBeUndefined()
      rows.push(...data[list].edges.map(({ node }: Json) => node))
      after = data[list].pageInfo.hasNextPage ? data[list].pageInfo.endCursor : null
    } while (after !== null)
    return rows
  }
})
