/** Pages, streams, cursors, narrowed streams and heartbeats. */
import { type Check, equal, holds } from './check.ts'
import { ask, type Json, type Server, Stream, until } from './server.ts'
import { type Subject, saveRows } from './subject.ts'

/** The server sends something at least every 12 s; it may take a while to come. */
const heartbeatMs = 20_000
const cursorForm = /^[\w.-]{1,80}$/

const idsOf = ({ results }: Stream): string[] => results.flatMap(({ data }) => data?.saved?.row?.id ?? [])
const has = (stream: Stream, ids: readonly string[]) => {
  const seen = new Set(idsOf(stream))
  return ids.every((id) => seen.has(id))
}
/** A worker that crashed may have published an event twice. */
const once = (ids: readonly string[]) => [...new Set(ids)]
const savedCursor = async ({ server, documents }: Subject): Promise<string> =>
  (await ask(server, documents.page(), { first: 1 })).page.savedCursor

async function follow(subject: Subject, after: string | undefined, headers = {}): Promise<Stream> {
  const stream = await Stream.open(subject.server, subject.documents.saved(), { after }, headers)
  equal(stream.status, 200, 'the status of the stream')
  holds(stream.contentType.startsWith('text/event-stream'), `the content type is ${stream.contentType}`)
  return stream
}

/** Ends its streams, however it ends. */
async function withStreams(subject: Subject, run: (subject: Subject) => Promise<void>): Promise<void> {
  const end = new AbortController()
  const server: Server = { ...subject.server, signal: AbortSignal.any([subject.server.signal, end.signal]) }
  try {
    await run({ ...subject, server })
  } finally {
    end.abort()
  }
}

const check = (heading: string, title: string, run: Check['run'], unless?: Check['unless']): Check => ({
  heading,
  title,
  run: (subject) => withStreams(subject, run),
  ...(unless && { unless }),
})

const unlessNarrowed = ({ model, narrowed }: Subject) =>
  narrowed ? undefined : `lists of ${model.name} cannot be narrowed by a column that this suite may choose`

export const checks: Check[] = [
  check(
    'Read, then subscribe',
    'gives the rows that a page lacks to a stream that begins at its savedCursor',
    async (subject) => {
      const { server, documents } = subject
      const before = await saveRows(subject, 5)
      const { page } = await ask(server, documents.page(), { first: 100 })
      const listed = new Set(page.edges.map(({ node }: Json) => node.id))
      const after = await saveRows(subject, 5)
      const stream = await follow(subject, page.savedCursor)
      const lacked = [...before, ...after].filter((id) => !listed.has(id))
      await stream.until(`expected events of ${lacked}`, () => has(stream, lacked))
    },
  ),

  check('Read, then subscribe', 'lists rows newest first', async (subject) => {
    const { server, documents } = subject
    await saveRows(subject, 3)
    const { page } = await ask(server, documents.page(), { first: 20 })
    const times = page.edges.map(({ node }: Json) => node.createdAt)
    equal(times, times.toSorted().reverse(), 'the order of createdAt')
  }),

  check('Read, then subscribe', 'shows the row of an event to whoever reads it after the event', async (subject) => {
    const { server, documents } = subject
    const stream = await follow(subject, await savedCursor(subject))
    const [id] = await saveRows(subject, 1)
    await stream.until(`expected an event of ${id}`, () => has(stream, [id!]))
    equal((await ask(server, documents.one, { id })).row?.id, id, 'the id of the row')
  }),

  check(
    'Cursors',
    'gives each event a cursor behind it, of one form and greater than the one before',
    async (subject) => {
      const stream = await follow(subject, await savedCursor(subject))
      const ids = await saveRows(subject, 10)
      await stream.until('expected ten events', () => has(stream, ids))
      const cursors: string[] = stream.results.map(({ data }) => data.saved.cursor)
      for (const cursor of cursors) {
        holds(cursorForm.test(cursor), `the cursor ${cursor} is not of 1 to 80 characters of A-Z a-z 0-9 _ - .`)
        equal(cursor.length, cursors[0]!.length, `the length of ${cursor}`)
      }
      equal(cursors, once(cursors).toSorted(), 'the order of the cursors')
    },
  ),

  check('Cursors', 'gives two streams the same events in the same order', async (subject) => {
    const cursor = await savedCursor(subject)
    const early = await follow(subject, cursor)
    const ids = (await Promise.all([1, 2, 3].map(() => saveRows(subject, 4)))).flat()
    await early.until('expected twelve events', () => has(early, ids))
    const late = await follow(subject, cursor)
    await late.until('expected the same events', () => has(late, ids))
    const mine = (stream: Stream) => once(idsOf(stream)).filter((id) => ids.includes(id))
    equal(mine(late), mine(early), 'the order of the later stream')
  }),

  check('Cursors', 'resumes behind each cursor: the events after it, and none before', async (subject) => {
    const first = await follow(subject, await savedCursor(subject))
    const ids = await saveRows(subject, 8)
    await first.until('expected eight events', () => has(first, ids))
    first.close()
    const events = first.results.map(({ data }) => ({ cursor: data.saved.cursor, id: data.saved.row.id }))
    for (const at of [0, 3, events.length - 2]) {
      const rest = events.slice(at + 1).map(({ id }) => id)
      const resumed = await follow(subject, events[at]!.cursor)
      await resumed.until(`expected the events after the cursor ${events[at]!.cursor}`, () => has(resumed, rest))
      resumed.close()
      equal(idsOf(resumed)[0], rest[0], 'the id of the first event')
    }
  }),

  check('Cursors', 'refuses a cursor that is none, and tells an EventSource to forget it', async (subject) => {
    const stream = await follow(subject, 'no cursor')
    await stream.until('expected errors and `event: complete`', ({ frames }) =>
      frames.some(({ event }) => event === 'complete'),
    )
    const code = stream.results[0]?.errors?.[0]?.extensions?.code
    holds(['BAD_USER_INPUT', 'CURSOR_EXPIRED'].includes(code), `the code is ${code}; expected BAD_USER_INPUT`)
    equal(stream.cursor, '', 'the last `id:` of the stream')
  }),

  check('Server-Sent Events', 'begins a stream with the cursor that it has reached', async (subject) => {
    const stream = await follow(subject, undefined)
    await stream.until('expected a first frame', ({ frames }) => frames.length > 0)
    const [{ id, data }] = stream.frames as [Stream['frames'][0]]
    holds(id !== undefined && cursorForm.test(id), `the first frame has the id ${id}; expected a cursor`)
    equal(data, undefined, 'the data of the first frame')
  }),

  check('Server-Sent Events', 'sends the cursor of each event in its `id:` line', async (subject) => {
    const stream = await follow(subject, undefined)
    await stream.until('expected a first frame', ({ frames }) => frames.length > 0)
    const ids = await saveRows(subject, 4)
    await stream.until('expected four events', () => has(stream, ids))
    for (const { event, id, data } of stream.frames)
      if (event === 'next') equal(id, JSON.parse(data!).data.saved.cursor, 'the `id:` line of an event')
  }),

  check('Server-Sent Events', 'resumes by the header Last-Event-ID, before the argument `after`', async (subject) => {
    const first = await follow(subject, await savedCursor(subject))
    const ids = await saveRows(subject, 6)
    await first.until('expected six events', () => has(first, ids))
    first.close()
    const events = first.results.map(({ data }) => ({ cursor: data.saved.cursor, id: data.saved.row.id }))
    const resumed = await follow(subject, events[0]!.cursor, { 'last-event-id': events[2]!.cursor })
    await resumed.until('expected the events after the header', () => has(resumed, [events.at(-1)!.id]))
    equal(idsOf(resumed)[0], events[3]!.id, 'the id of the first event')
  }),

  check('Server-Sent Events', 'streams to a GET with `query` and `variables`', async (subject) => {
    const variables = JSON.stringify({ after: await savedCursor(subject) })
    const parameters = new URLSearchParams({ query: subject.documents.saved(), variables })
    const headers = { accept: 'text/event-stream' }
    const stream = await Stream.fetch(subject.server, `/graphql?${parameters}`, { headers })
    const ids = await saveRows(subject, 2)
    await stream.until('expected two events', () => has(stream, ids))
  }),

  check('Multipart', 'streams events as parts of multipart/mixed', async (subject) => {
    const { server, documents } = subject
    const accept = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0, application/json'
    const stream = await Stream.open(server, documents.saved(), { after: await savedCursor(subject) }, { accept })
    holds(stream.contentType.startsWith('multipart/mixed'), `the content type is ${stream.contentType}`)
    const [id] = await saveRows(subject, 1)
    await stream.until(
      `expected a part with ${id}; it has sent ${stream.text}`,
      ({ text }) => text.includes(`"${id}"`) && text.includes('{"payload":{"data":'),
    )
  }),

  check('WebSocket', 'subscribes, and resumes with `after`, over graphql-transport-ws', async (subject) => {
    const { server, documents } = subject
    const after = await savedCursor(subject)
    const [id] = await saveRows(subject, 1)
    const socket = new WebSocket(`${server.url.replace(/^http/, 'ws')}/graphql`, 'graphql-transport-ws')
    const messages: Json[] = []
    const send = (message: object) => socket.send(JSON.stringify(message))
    const authorization = server.token && { authorization: `Bearer ${server.token}` }
    socket.onopen = () => send({ type: 'connection_init', payload: authorization ?? {} })
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data)
      messages.push(message)
      if (message.type === 'ping') send({ type: 'pong' })
      if (message.type === 'connection_ack')
        send({ type: 'subscribe', id: '1', payload: { query: documents.saved(), variables: { after } } })
    }
    socket.onclose = ({ code }) => messages.push({ type: 'closed', code })
    try {
      await until(
        () => `expected an event of ${id}; the messages are ${JSON.stringify(messages)}`,
        () => messages.some(({ type, payload }) => type === 'next' && payload.data.saved.row.id === id),
        server.withinMs,
      )
    } finally {
      socket.close()
    }
  }),

  check(
    'Read, then subscribe',
    'narrows a page and a stream by the same arguments, and takes the cursor of one for the other',
    async (subject) => {
      const { server, documents } = subject
      const { columns, key } = subject.narrowed!
      const [mine, others] = [key(), key()]
      const before = await saveRows(subject, 2, mine)
      await saveRows(subject, 2, others)
      const all = await follow(subject, await savedCursor(subject))
      await until(
        () => 'expected a page of the rows that were saved',
        async () => (await ask(server, documents.page(columns), { ...mine, first: 50 })).page.edges.length === 2,
        server.withinMs,
      )
      const { page } = await ask(server, documents.page(columns), { ...mine, first: 50 })
      equal(page.edges.map(({ node }: Json) => node.id).sort(), before.toSorted(), 'the ids of the narrowed page')
      const stream = await Stream.open(server, documents.saved(columns), { ...mine, after: page.savedCursor })
      const foreign = await saveRows(subject, 3, others)
      const after = await saveRows(subject, 3, mine)
      await stream.until('expected the three rows', () => has(stream, after))
      await all.until('expected all rows', () => has(all, [...foreign, ...after]))
      equal(
        idsOf(stream).filter((id) => !before.includes(id) && !after.includes(id)),
        [],
        'the ids of other rows',
      )
    },
    unlessNarrowed,
  ),

  check(
    'A quiet subscription',
    'moves the cursor of a narrowed stream on while other rows are saved, and it resumes',
    async (subject) => {
      const { server, documents } = subject
      const { columns, key } = subject.narrowed!
      const [mine, others] = [key(), key()]
      const after = await savedCursor(subject)
      const stream = await Stream.open(server, documents.saved(columns), { ...mine, after })
      await stream.until('expected a first frame', ({ cursor }) => cursor !== undefined)
      const all = await follow(subject, after)
      const foreign = await saveRows(subject, 2, others)
      await all.until('expected the other rows', () => has(all, foreign))
      const reached = all.results.at(-1).data.saved.cursor
      const isThere = ({ cursor }: Stream) => cursor !== undefined && cursor >= reached
      await stream.until(`expected a heartbeat with the cursor ${reached}`, isThere, 2 * heartbeatMs)
      const resumed = await Stream.open(server, documents.saved(columns), { ...mine, after: stream.cursor })
      const [id] = await saveRows(subject, 1, mine)
      await resumed.until('expected the row', () => has(resumed, [id!]))
      equal(idsOf(resumed)[0], id, 'the id of the first event')
    },
    unlessNarrowed,
  ),

  check('Heartbeats and slow clients', 'sends something at least every 12 s', async (subject) => {
    const stream = await follow(subject, undefined)
    await stream.until('expected a first frame', ({ frames }) => frames.length > 0)
    const { length } = stream.frames
    await stream.until('expected a heartbeat', ({ frames }) => frames.length > length, heartbeatMs)
  }),
]
