/** What an idle subscriber costs: the memory of its server, over Server-Sent Events and over a WebSocket. */
import { type Contender, type Process, startPeer, startSpillway } from '../contender.ts'
import { type Crowd, LocalCrowd } from '../crowd.ts'
import { lengthOfEvent } from '../fanning-out.ts'
import type { Parts } from '../parts.ts'
import { residentKiB } from '../process-figures.ts'
import type { Publisher } from '../publish.ts'
import type { Scenario } from '../scenario.ts'
import type { Connection } from '../subscriber.ts'
import { contentChannel, contentLog, savedDocument } from './fan-out.ts'

/** They compile and warm up what all share. */
const firstSubscribers = 200

interface Idling {
  name: string
  role: Contender['role']
  protocol: NonNullable<Connection['protocol']>
  start(parts: Parts): Promise<Process>
  publisher(redisUrl: string): Publisher | Promise<Publisher>
}

const idling = ({ name, role, protocol, start, publisher }: Idling): Contender => ({
  name,
  role,
  start: async (parts) => ({
    async measure() {
      await parts.reset()
      await using stack = new AsyncDisposableStack()
      const server = stack.adopt(await start(parts), (one) => one.stop())
      const { publish } = stack.adopt(await publisher(parts.redis.url), (one) => one.close())
      const size = parts.pace.quick ? 2_000 : 10_000
      const open = async (some: number): Promise<Crowd> => {
        const subscriptions = [{ query: savedDocument }]
        const crowd = await LocalCrowd.open({ url: server.url, protocol, subscriptions, size: some })
        return stack.adopt(crowd, (one) => one.close())
      }
      await (await open(firstSubscribers)).quiet()
      const before = residentKiB(server.pid)
      const crowd = await open(size)
      await crowd.quiet()
      const memory = (residentKiB(server.pid) - before) / size
      // An event that reaches all of them shows that they were subscribed.
      await lengthOfEvent(crowd, publish)
      const { dropped } = await crowd.state()
      return { memory, subscribers: size, errors: dropped }
    },
    stop: async () => {},
  }),
})

const spillway = {
  role: 'ours',
  start: (parts) => startSpillway('api', parts.env),
  publisher: contentLog,
} satisfies Partial<Idling>

const webSocket = 'Spillway, WebSocket'
const yoga = 'stock Yoga + graphql-redis-subscriptions'

export const idle: Scenario = {
  name: 'idle',
  title: '10,000 idle subscribers in one process, memory of each',
  figure: 'memory',
  unit: 'KiB',
  note: 'Resident memory of the process after less before, by the number of subscribers; sockets included. Over SSE, except where WebSocket (graphql-transport-ws) is named. At the end one event reaches every subscriber.',
  contenders: [
    idling({ ...spillway, name: 'Spillway', protocol: 'SSE' }),
    idling({ ...spillway, name: webSocket, protocol: 'WebSocket' }),
    idling({
      name: yoga,
      role: 'peer',
      protocol: 'SSE',
      start: (parts) => startPeer('yoga-pubsub', parts.env),
      publisher: contentChannel,
    }),
  ],
  targets: [{ figure: 'memory', unit: 'KiB', atMost: 15 }, { beside: webSocket }, { beside: yoga }],
}
