/** Subscriptions as a client has them: where they begin, how they go on, what they say when they cannot; on both set-ups, over both wires. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps, unique } from '../harness/boot.ts'
import { holds } from '../harness/eventually.ts'
import { SseClient } from '../harness/sse.ts'
import { cursorNow, Subscriber, savedQuery, type Wire, wires } from '../harness/subscriber.ts'
import { WsClient } from '../harness/ws.ts'

interface Live {
  // biome-ignore lint/suspicious/noExplicitAny: as Json in client.ts.
  results(): any[]
  /** The code of the error that ended it. */
  code(): string | undefined
  completed(): boolean
  close(): void
}

/** A subscription over either wire. */
async function live(wire: Wire, url: string, query: string, variables: Record<string, unknown> = {}): Promise<Live> {
  if (wire === 'SSE') {
    const client = await SseClient.open(url, query, variables)
    return {
      results: () => client.results.filter(({ data }) => data).map(({ data }) => data),
      code: () => client.results.find(({ errors }) => errors)?.errors[0].extensions?.code,
      completed: () => client.frames.some(({ event }) => event === 'complete'),
      close: () => client.close(),
    }
  }
  const client = await WsClient.connect(url)
  client.subscribe('1', query, variables)
  return {
    results: () =>
      client.of('1').flatMap(({ type, payload }) => (type === 'next' && payload.data ? [payload.data] : [])),
    code: () => {
      const error = client.of('1').find(({ type, payload }) => type === 'error' || payload?.errors)
      return (error?.payload.errors ?? error?.payload)?.[0].extensions?.code
    },
    completed: () => client.of('1').some(({ type }) => type === 'complete'),
    close: () => client.close(),
  }
}

async function save(system: Spillway, content = unique()): Promise<string> {
  const { save } = (await system.client.saveAndWait(content)).data
  expect(save.status).toBe('SAVED')
  return save.saveId
}

async function saveInTurn(system: Spillway, count: number): Promise<string[]> {
  const ids: string[] = []
  for (let i = 0; i < count; i++) ids.push(await save(system))
  return ids
}

/** The ids and cursors a subscriber from `after` gets, up to a number of them. */
async function receive(wire: Wire, url: string, after: string, count: number) {
  const subscriber = await live(wire, url, savedQuery, { after })
  await holds(() => expect(subscriber.results().length).toBeGreaterThanOrEqual(count))
  subscriber.close()
  return subscriber.results().map(({ saved }) => ({ id: saved.content.id as string, cursor: saved.cursor as string }))
}

describe.each(setUps)('Spillway (%s)', (setUp) => {
  let system: Spillway

  beforeAll(async () => {
    system = await boot(setUp, { workers: 1 })
  })
  afterAll(async () => {
    await system.stop()
  })

  describe.each(wires)('over %s', (wire) => {
    test('sends a resumed subscriber exactly what was saved meanwhile, and then what follows', async () => {
      const start = await cursorNow(system.url)
      const [first] = await saveInTurn(system, 1)
      const [seen] = await receive(wire, system.url, start, 1)
      expect(seen!.id).toBe(first)
      const missed = await saveInTurn(system, 7)
      const back = await live(wire, system.url, savedQuery, { after: seen!.cursor })
      await holds(() => expect(back.results().map(({ saved }) => saved.content.id)).toEqual(missed))
      const next = await save(system)
      await holds(() => expect(back.results().map(({ saved }) => saved.content.id)).toEqual([...missed, next]))
      back.close()
    })

    test('sends the second of several events of one entry after the cursor of the first', async () => {
      const start = await cursorNow(system.url)
      const inputs = Array.from({ length: 100 }, () => ({ id: randomUUID(), content: unique() }))
      await system.client.graphql('mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId } }', {
        inputs,
      })
      const all = await receive(wire, system.url, start, 100)
      expect(new Set(all.map(({ id }) => id))).toEqual(new Set(inputs.map(({ id }) => id)))
      for (const i of [0, 1, 49, 98]) {
        expect(await receive(wire, system.url, all[i]!.cursor, 99 - i)).toEqual(all.slice(i + 1))
      }
    })

    test('takes `after` from a variable, a literal or a default', async () => {
      const start = await cursorNow(system.url)
      const id = await save(system)
      const fields = '{ cursor content { id } }'
      const asked: [string, Record<string, unknown>][] = [
        [`subscription ($after: String) { saved(after: $after) ${fields} }`, { after: start }],
        [`subscription { saved(after: "${start}") ${fields} }`, {}],
        [`subscription ($after: String = "${start}") { saved(after: $after) ${fields} }`, {}],
        [`subscription ($a: String = "nonsense") { saved(after: $a) ${fields} }`, { a: start }],
        [`subscription S { ...F } fragment F on Subscription { saved(after: "${start}") ${fields} }`, {}],
      ]
      for (const [query, variables] of asked) {
        const subscriber = await live(wire, system.url, query, variables)
        await holds(() => expect(subscriber.results().map(({ saved }) => saved.content.id)).toEqual([id]))
        subscriber.close()
      }
      // null is as good as nothing: from now on.
      const now = await live(wire, system.url, savedQuery, { after: null })
      const next = await saveUntilSeen(system, now)
      expect(now.results().map(({ saved }) => saved.content.id)).not.toContain(id)
      expect(next).toBe(now.results().at(-1).saved.content.id)
      now.close()
    })

    test('refuses a cursor of another log', async () => {
      await save(system)
      const now = await cursorNow(system.url)
      const [epoch, major, minor, index] = now.split('.') as [string, string, string, string]
      const part = (text: string, by: number) => String(Number(text) + by).padStart(text.length, '0')
      const bad: [string, string, string][] = [
        ['CURSOR_EXPIRED', 'another epoch', `ANOTHERepoch.${major}.${minor}.${index}`],
        ['CURSOR_EXPIRED', 'the future', `${epoch}.${part(major, 3_600_000)}.${minor}.${index}`],
        ['CURSOR_EXPIRED', 'inside an entry that nobody appended', `${epoch}.${major}.${minor}.${part(index, 3)}`],
        ['CURSOR_EXPIRED', 'between two entries', `${epoch}.${part(major, -1)}.${part(minor, 7)}.${index}`],
        ['BAD_USER_INPUT', 'nonsense', 'nonsense'],
        ['BAD_USER_INPUT', 'too large a number', `${epoch}.9999999999999999.${minor}.${index}`],
        ['BAD_USER_INPUT', 'empty', ''],
        ['BAD_USER_INPUT', 'with something behind it', `${now}0000`],
      ]
      for (const [code, what, after] of bad) {
        const subscriber = await live(wire, system.url, savedQuery, { after })
        await holds(() => expect(subscriber.code(), what).toBe(code))
        expect(subscriber.results()).toEqual([])
        subscriber.close()
      }
    })

    test('answers different documents with aliases at once, each with its own fields', async () => {
      const plain = await live(wire, system.url, savedQuery)
      const aliased = await live(
        wire,
        system.url,
        'subscription { s: saved { c: cursor it: content { text: content } } }',
      )
      const bare = await live(wire, system.url, 'subscription Bare { saved { __typename content { __typename id } } }')
      const start = await cursorNow(system.url)
      const content = unique()
      const id = await save(system, content)
      await holds(() => expect([plain, aliased, bare].map((one) => one.results().length)).toEqual([1, 1, 1]))
      const [{ saved }] = plain.results()
      expect(saved.content.id).toBe(id)
      expect(saved.cursor > start).toBe(true)
      expect(aliased.results()).toEqual([{ s: { c: saved.cursor, it: { text: content } } }])
      expect(bare.results()).toEqual([
        { saved: { __typename: 'ContentSaved', content: { __typename: 'Content', id } } },
      ])
      for (const one of [plain, aliased, bare]) one.close()
    })

    test('sends a receipt its state, then SAVED, and completes', async () => {
      const query =
        'subscription ($id: ID!) { receipt(id: $id) { saveId status ... on ContentReceipt { content { id } } } }'
      const id = randomUUID()
      await system.client.graphql('mutation ($id: ID!) { save(content: "to follow", id: $id) { saveId } }', { id })
      const receipt = await live(wire, system.url, query, { id })
      await holds(() => expect(receipt.completed()).toBe(true))
      const states = receipt.results().map((result) => result.receipt)
      expect(states.at(-1)).toEqual({ saveId: id, status: 'SAVED', content: { id } })
      for (const state of states.slice(0, -1)) expect(state).toEqual({ saveId: id, status: 'QUEUED', content: null })
      const unknown = await live(wire, system.url, query, { id: randomUUID() })
      await holds(() => expect(unknown.completed()).toBe(true))
      expect(unknown.results()).toEqual([])
      const malformed = await live(wire, system.url, query, { id: 'not a UUID' })
      await holds(() => expect(malformed.code()).toBe('BAD_USER_INPUT'))
    })

    test('sends the state of the queue once, and nothing while it stays', async () => {
      await holds(async () => expect((await system.client.queue()).depth).toBe(0))
      const queue = await live(wire, system.url, 'subscription { queue { depth inFlight deadLetters } }')
      await holds(() => expect(queue.results()).toEqual([{ queue: { depth: 0, inFlight: 0, deadLetters: 0 } }]))
      // That nothing comes can only be seen by waiting.
      await new Promise((resolve) => setTimeout(resolve, 2_500))
      expect(queue.results()).toHaveLength(1)
      queue.close()
    })
  })

  test('goes from history to live 200 times under saves without a gap or a repeat', async () => {
    const start = await cursorNow(system.url)
    const reference = new Subscriber('SSE', start, () => system.url).start()
    const flow = new AbortController()
    const saving = Promise.all(Array.from({ length: 4 }, () => saveOn(system, flow.signal)))
    await holds(() => expect(reference.seen.length).toBeGreaterThan(400), { timeoutMs: 20_000 })
    const handOver = async (i: number) => {
      // From some way behind, up to the very end, so that it catches up and goes on.
      const from = Math.max(0, reference.seen.length - 1 - (i % 40) * 10)
      const until = reference.seen.length + 50
      const [after] = reference.seen[from]!.split(' ')
      const subscriber = new Subscriber(wires[i % 2]!, after!, () => system.url).start()
      await holds(() => expect(subscriber.seen.length).toBeGreaterThan(until - from), { timeoutMs: 20_000 })
      await subscriber.stop()
      await holds(() => expect(reference.seen.length).toBeGreaterThan(from + subscriber.seen.length))
      expect(subscriber.faults).toEqual([])
      expect(subscriber.connections).toBe(1)
      expect(subscriber.seen).toEqual(reference.seen.slice(from + 1, from + 1 + subscriber.seen.length))
    }
    for (let i = 0; i < 200; i += 10) await Promise.all(Array.from({ length: 10 }, (_, n) => handOver(i + n)))
    flow.abort()
    await saving
    await reference.stop()
  }, 90_000)

  test('prefers Last-Event-ID to `after` in a GET, as a browser sends it', async () => {
    await holds(async () => expect((await system.client.queue()).depth).toBe(0), { timeoutMs: 20_000 })
    const start = await cursorNow(system.url)
    const [one, two] = await saveInTurn(system, 2)
    const [first] = await receive('SSE', system.url, start, 2)
    const query = `subscription { saved(after: "${start}") { content { id } } }`
    const read = async (headers: Record<string, string>) => {
      const abort = new AbortController()
      const response = await fetch(`${system.url}/graphql?query=${encodeURIComponent(query)}`, {
        headers: { accept: 'text/event-stream', ...headers },
        signal: abort.signal,
      })
      expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
      expect(response.headers.get('cache-control')).toContain('no-cache')
      let text = ''
      for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
        text += chunk
        if (text.includes(two!)) break
      }
      abort.abort()
      return text
    }
    expect(await read({})).toContain(one)
    const resumed = await read({ 'last-event-id': first!.cursor })
    expect(resumed).not.toContain(one)
    expect(resumed.startsWith(`id: ${first!.cursor}\n\n`)).toBe(true)
  })

  test('empties the id of a browser whose cursor is refused, and completes the stream', async () => {
    const client = await SseClient.open(
      system.url,
      savedQuery,
      {},
      { 'last-event-id': 'elsewhere.00000000000001.000000.000000' },
    )
    await client.ended
    expect(client.frames).toEqual([
      { id: '', event: 'next', data: expect.stringContaining('CURSOR_EXPIRED') },
      { id: undefined, event: 'complete', data: '' },
    ])
  })
})

/** Saves until a subscriber that may not be there yet has seen one; its id. */
async function saveUntilSeen(system: Spillway, subscriber: Live): Promise<string> {
  return await holds(
    async () => {
      const id = await save(system)
      await holds(() => expect(subscriber.results().at(-1)?.saved.content.id).toBe(id), { timeoutMs: 500 })
      return id
    },
    { timeoutMs: 10_000 },
  )
}

async function saveOn(system: Spillway, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const inputs = Array.from({ length: 5 }, () => ({ content: unique() }))
    await system.client.graphql('mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId } }', {
      inputs,
    })
  }
}

test.each(setUps)(
  'Spillway (%s) refuses a cursor that is older than its log',
  async (setUp) => {
    const system = await boot(setUp, { env: { EVENTS_RETENTION_BYTES: '1048576' }, workers: 1 })
    try {
      const start = await cursorNow(system.url)
      for (let i = 0; i < 5; i++) {
        const inputs = Array.from({ length: 10 }, () => ({ content: 'x'.repeat(60_000) }))
        await system.client.graphql('mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId } }', {
          inputs,
        })
      }
      await holds(async () => expect((await system.client.queue()).depth).toBe(0))
      await save(system)
      // A process that was there has the last megabytes in memory, and could still tell.
      await system.crash()
      for (const wire of wires) {
        const subscriber = await live(wire, system.url, savedQuery, { after: start })
        await holds(() => expect(subscriber.code()).toBe('CURSOR_EXPIRED'))
        expect(subscriber.results()).toEqual([])
        subscriber.close()
        const now = await live(wire, system.url, savedQuery)
        await saveUntilSeen(system, now)
        now.close()
      }
    } finally {
      await system.stop()
    }
  },
  120_000,
)
