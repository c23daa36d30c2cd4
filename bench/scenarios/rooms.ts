/** Subscriptions that are narrowed to a room, as `commentSaved(postId:)` is to a post: 10 subscribers in each of many rooms. */
import { randomUUID } from 'node:crypto'
import { uuidv7 } from 'uuidv7'
import { models } from '../../test/harness/models.ts'
import { type Contender, type Figures, type Process, startPeer, startSpillway } from '../contender.ts'
import { clock } from '../crowd.ts'
import { deliver, type FanOut, mostUnderWay, openFanOut, receiving } from '../fanning-out.ts'
import type { Parts } from '../parts.ts'
import { cpuMs } from '../process-figures.ts'
import { channelPublisher, logPublisher, type Publisher } from '../publish.ts'
import { RemoteCrowd } from '../remote-crowd.ts'
import { contentOf } from '../save.ts'
import type { Scenario } from '../scenario.ts'

const subscribersOfRoom = 10
const fewRooms = 10
const query = 'subscription ($postId: String!) { commentSaved(postId: $postId) { cursor comment { id postId body } } }'

/** While the CPU time is measured: at this rate nobody falls behind, and no event is sent together with the next. */
const pacedPerSecond = 1_000
const pacedEveryMs = 10

const perEvent = 'CPU µs an event'
const perDelivery = 'CPU µs a delivery'

interface Rooms {
  name: string
  role: Contender['role']
  roomsOf: (quick: boolean) => number
  start(parts: Parts, execArgv?: string[]): Promise<Process>
  publisher(parts: Parts, rooms: readonly string[]): Publisher | Promise<Publisher>
}

const inRooms = ({ name, role, roomsOf, start, publisher }: Rooms): Contender => ({
  name,
  role,
  start: async (parts, execArgv) => {
    const { quick, seconds } = parts.pace
    const rooms = Array.from({ length: roomsOf(quick) }, () => randomUUID())
    const subscriptions = rooms.map((postId) => ({ query, variables: { postId } }))
    await using stack = new AsyncDisposableStack()
    const fanOut = await openFanOut(stack, {
      server: start(parts, execArgv),
      publisher: () => publisher(parts, rooms),
      crowd: (url) => RemoteCrowd.open({ url, subscriptions, size: rooms.length * subscribersOfRoom }),
      topics: rooms.length,
    })
    const events = quick ? 1_000 : 10_000
    await deliver(fanOut, events)
    const opened = stack.move()
    return {
      async measure() {
        const { rate, errors } = await deliver(fanOut, events)
        return { rate, ...(await cpuOf(fanOut, pacedPerSecond * Math.ceil(seconds))), rooms: rooms.length, errors }
      },
      stop: () => opened.disposeAsync(),
    }
  },
})

/** The CPU time that the server takes for an event. */
async function cpuOf(fanOut: FanOut, events: number): Promise<Figures> {
  const perTurn = (pacedPerSecond * pacedEveryMs) / 1_000
  let before = 0
  await receiving(fanOut, events, async () => {
    before = cpuMs(fanOut.pid)
    const started = clock()
    for (let i = 0; i < events; i += perTurn) {
      await fanOut.publish(perTurn)
      const rest = started + ((i + perTurn) * 1_000) / pacedPerSecond - clock()
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, rest)))
    }
  })
  const cpu = ((cpuMs(fanOut.pid) - before) * 1_000) / events
  return { [perEvent]: cpu, [perDelivery]: cpu / subscribersOfRoom }
}

const Comment = models.get('Comment')!
const main = new URL('../comments-api.ts', import.meta.url)

/** Each has a log of its own, so that it does not work while another is measured. */
function spillway(name: string, roomsOf: Rooms['roomsOf']): Contender {
  const queueOf = (parts: Parts) => `${parts.redis.url}?prefix=${name.replace(/\W+/g, '-')}`
  return inRooms({
    name,
    role: 'ours',
    roomsOf,
    start: (parts, execArgv) => startSpillway('api', { ...parts.env, QUEUE_URL: queueOf(parts) }, execArgv, main),
    publisher: (parts, rooms) =>
      logPublisher(queueOf(parts), Comment, (n) => {
        const now = new Date()
        const dates = { createdAt: now, savedAt: now }
        const postId = rooms[n % rooms.length]!
        return { id: uuidv7(), postId, author: 'bench', body: contentOf(n), rating: null, mood: 'HAPPY', ...dates }
      }),
  })
}

const manyRooms = (quick: boolean) => (quick ? 100 : 1_000)
const few = `Spillway, ${fewRooms} rooms`
const yoga = 'stock Yoga + graphql-redis-subscriptions, a topic a room'

export const rooms: Scenario = {
  name: 'rooms',
  title: 'deliveries to 10,000 subscribers in 1,000 rooms over SSE',
  figure: 'rate',
  unit: '/s',
  note: `${subscribersOfRoom} subscribers in each room, and each event is of the next room. One event a publish, at most ${mostUnderWay.toLocaleString('en-US')} of them under way, both sides warmed up. The CPU time is that of the server's process (user and kernel, heartbeats of all subscribers included), at ${pacedPerSecond.toLocaleString('en-US')} events a second. With ${fewRooms} rooms there are ${fewRooms * subscribersOfRoom} subscribers, so that an event has ${subscribersOfRoom} deliveries there, too.`,
  profile: true,
  contenders: [
    spillway('Spillway', manyRooms),
    spillway(few, () => fewRooms),
    inRooms({
      name: yoga,
      role: 'peer',
      roomsOf: manyRooms,
      start: (parts) => startPeer('yoga-pubsub', parts.env),
      publisher: (parts, rooms) =>
        channelPublisher(parts.redis.url, (n) => {
          const postId = rooms[n % rooms.length]!
          const comment = { id: uuidv7(), postId, body: contentOf(n) }
          return [`comments:${postId}`, { commentSaved: { cursor: `mDfe1pzOdSJE.${'0'.repeat(28)}`, comment } }]
        }),
    }),
  ],
  targets: [
    { beside: yoga, atLeast: 10 },
    { beside: few, figure: perEvent, unit: '', atMost: 1.2 },
    { figure: perDelivery, unit: '' },
  ],
}
