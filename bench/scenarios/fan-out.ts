/** `saved` to 1,000 subscribers: deliveries a second, where all sent the same document and where each sent another. */
import { uuidv7 } from 'uuidv7'
import { Content, contentRow } from '../../test/harness/contents.ts'
import { type Contender, type Running, startPeer, startSpillway } from '../contender.ts'
import { LocalCrowd } from '../crowd.ts'
import { deliver, type FanOut, mostUnderWay, openFanOut } from '../fanning-out.ts'
import type { Pace } from '../parts.ts'
import { channelPublisher, logPublisher } from '../publish.ts'
import { contentOf } from '../save.ts'
import type { Scenario } from '../scenario.ts'
import type { Subscription } from '../subscriber.ts'

export const savedDocument = 'subscription { saved { cursor content { id content } } }'
const subscribers = 1_000
/** Events of one log entry; a worker under load publishes more at once. */
const batch = 20

const same: Subscription[] = [{ query: savedDocument }]
/** Of one length, so that all events are. */
const different: Subscription[] = Array.from({ length: subscribers }, (_, n) => {
  const alias = `content${String(n >> 1).padStart(3, '0')}`
  return { query: `subscription { saved { cursor ${alias}: content { ${n % 2 ? 'id content' : 'content id'} } } }` }
})

/** Events of one round. */
type Events = (pace: Pace) => number

export const contentLog = (redisUrl: string, entrySize = 1) =>
  logPublisher(redisUrl, Content, (n) => contentRow(contentOf(n), { id: uuidv7() }), entrySize)

export const contentChannel = (redisUrl: string) => channelPublisher(redisUrl, (n) => ['saved', { saved: savedOf(n) }])

const savedOf = (n: number) => ({
  cursor: `mDfe1pzOdSJE.${'0'.repeat(28)}`,
  content: { id: uuidv7(), content: contentOf(n) },
})

/** Warms up with the events of one round. */
async function measuring(stack: AsyncDisposableStack, fanOut: FanOut, events: number): Promise<Running> {
  await deliver(fanOut, events)
  const opened = stack.move()
  return { measure: () => deliver(fanOut, events), stop: () => opened.disposeAsync() }
}

const crowdOf = (subscriptions: Subscription[]) => (url: string) =>
  LocalCrowd.open({ url, subscriptions, size: subscribers })

const spillway = (
  subscriptions: Subscription[],
  eventsOf: Events,
  { entrySize = 1, onLength = (_length: number) => {} } = {},
): Contender => ({
  name: 'Spillway',
  role: 'ours',
  start: async (parts, execArgv) => {
    await parts.reset()
    await using stack = new AsyncDisposableStack()
    const fanOut = await openFanOut(stack, {
      server: startSpillway('api', parts.env, execArgv),
      publisher: () => contentLog(parts.redis.url, entrySize),
      crowd: crowdOf(subscriptions),
    })
    onLength(fanOut.length)
    return await measuring(stack, fanOut, eventsOf(parts.pace))
  },
})

const yogaName = 'stock Yoga + graphql-redis-subscriptions'

const yoga = (subscriptions: Subscription[]): Contender => ({
  name: yogaName,
  role: 'peer',
  start: async (parts) => {
    await using stack = new AsyncDisposableStack()
    const fanOut = await openFanOut(stack, {
      server: startPeer('yoga-pubsub', parts.env),
      publisher: () => contentChannel(parts.redis.url),
      crowd: crowdOf(subscriptions),
    })
    return await measuring(stack, fanOut, parts.pace.quick ? 40 : 200)
  },
})

/** Twenty contents in each publish, as one list. */
const yogaLists: Contender = {
  name: `${yogaName}, lists of ${batch}`,
  role: 'peer',
  start: async (parts) => {
    await using stack = new AsyncDisposableStack()
    const fanOut = await openFanOut(stack, {
      server: startPeer('yoga-pubsub', parts.env),
      publisher: () =>
        channelPublisher(parts.redis.url, (n) => [
          'savedMany',
          { savedMany: Array.from({ length: batch }, (_, i) => savedOf(n * batch + i)) },
        ]),
      crowd: crowdOf([{ query: savedDocument.replace('saved', 'savedMany') }]),
    })
    const lists = parts.pace.quick ? 10 : 100
    const running = await measuring(stack, fanOut, lists)
    return {
      ...running,
      async measure() {
        const { rate, errors } = await running.measure()
        return { rate: rate! * batch, errors: errors! }
      },
    }
  },
}

const manyEvents: Events = ({ quick }) => (quick ? 400 : 2_000)
let ourLength = 0

const constant: Contender = {
  name: 'constant bytes to the same sockets',
  role: 'limit',
  start: async (parts) => {
    await using stack = new AsyncDisposableStack()
    const fanOut = await openFanOut(stack, {
      server: startPeer('sse-constant', parts.env),
      publisher: (url) => ({
        async publish(events) {
          await fetch(`${url}/write?times=${events / batch}&length=${ourLength * batch}`)
        },
        close: async () => {},
      }),
      crowd: crowdOf(same),
      length: ourLength,
    })
    return await measuring(stack, fanOut, manyEvents(parts.pace))
  },
}

const onLength = (length: number) => {
  ourLength = length
}

export const fanOut: Scenario = {
  name: 'fan-out',
  title: 'deliveries to 1,000 identical subscribers over SSE, 20 events an entry',
  figure: 'rate',
  unit: '/s',
  note: `Published in log entries of ${batch} events, as a worker publishes a batch. The peer publishes lists of as many. The limit writes bytes of the length of ${batch} events to each socket as often.`,
  profile: true,
  contenders: [spillway(same, manyEvents, { entrySize: batch, onLength }), constant, yogaLists],
  targets: [{ beside: constant.name, atLeast: 0.8 }, { beside: yogaLists.name }],
}

export const fanOutSingle: Scenario = {
  name: 'fan-out-single',
  title: 'deliveries to 1,000 identical subscribers over SSE, one event a publish',
  figure: 'rate',
  unit: '/s',
  profile: true,
  note: `Each event is published alone: to Spillway as a log entry, which is on disk before the answer, to the peer by PUBLISH. At most ${mostUnderWay.toLocaleString('en-US')} events are under way. Both are warmed up with the events of one round.`,
  contenders: [spillway(same, manyEvents), yoga(same)],
  targets: [{ beside: yogaName, atLeast: 40 }],
}

export const documents: Scenario = {
  name: 'documents',
  title: 'deliveries to 1,000 subscribers with 1,000 documents over SSE',
  figure: 'rate',
  unit: '/s',
  profile: true,
  note: 'The documents differ in an alias and in the order of two fields. One event a publish, both sides warmed up.',
  contenders: [spillway(different, ({ quick }) => (quick ? 40 : 200)), yoga(different)],
  targets: [{ beside: yogaName, atLeast: 5 }],
}
