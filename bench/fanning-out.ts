/** Events to a crowd of subscribers: the length of one event, and how many deliveries a second there are. */
import type { Process } from './contender.ts'
import { type Crowd, clock } from './crowd.ts'
import type { Publisher } from './publish.ts'

/** A server, its subscribers, and what publishes to them. */
export interface FanOut<C extends Crowd = Crowd> {
  pid: number
  crowd: C
  publish: Publisher['publish']
  /** A subscriber gets one of so many consecutive events. */
  topics: number
  /** Bytes of the shortest event, as a subscriber receives it. */
  length: number
}

interface Given<C extends Crowd> {
  server: Promise<Process>
  publisher: (url: string) => Publisher | Promise<Publisher>
  crowd: (url: string) => Promise<C>
  topics?: number
  /** Left out: it is measured. */
  length?: number
}

/** `stack` closes all of it. */
export async function openFanOut<C extends Crowd>(
  stack: AsyncDisposableStack,
  { server, publisher, crowd: open, topics = 1, length }: Given<C>,
): Promise<FanOut<C>> {
  const { url, pid } = stack.adopt(await server, (one) => one.stop())
  const { publish } = stack.adopt(await publisher(url), (one) => one.close())
  const crowd = stack.adopt(await open(url), (one) => one.close())
  return { pid, crowd, publish, topics, length: length ?? (await lengthOfEvent(crowd, publish, topics)) }
}

const patienceMs = 120_000
/** Events that were published and have not reached all subscribers. A multiple of all numbers of topics. */
export const mostUnderWay = 1_000
/** Without a byte for so long, nothing more will come. */
const stalledMs = 30_000
const stalledProbeMs = 2_000
/** Two lengths of one kind of event: a position in the log may have a digit more. */
const isAlike = (a: number, b: number) => Math.abs(a - b) <= 0.01 * a

/**
 * The length of the shortest event. Events are published until two of them reached every subscriber, in about as many bytes: a peer answers
 * a subscriber before Redis has confirmed its own subscription, and publishes nothing to it until then.
 */
export async function lengthOfEvent(crowd: Crowd, publish: Publisher['publish'], topics = 1): Promise<number> {
  const until = clock() + patienceMs
  let before = 0
  for (;;) {
    const { least, most, dropped } = await probe(crowd, publish, topics)
    if (least > 0 && isAlike(least, most) && isAlike(least, before)) return least
    before = least
    if (clock() > until)
      throw new Error(
        `an event did not reach all subscribers alike: ${least} to ${most} bytes of it, and ${dropped} of ${crowd.size} were disconnected`,
      )
  }
}

async function probe(crowd: Crowd, publish: Publisher['publish'], topics: number) {
  await crowd.quiet()
  await crowd.restart()
  await publish(topics)
  // Those that were not subscribed get the next one.
  await crowd.received(1, stalledProbeMs).catch(() => {})
  await crowd.quiet()
  return await crowd.state()
}

/** Publishes so many events, as fast as they arrive; of the deliveries of all of them. */
export async function deliver(fanOut: FanOut, events: number): Promise<{ rate: number; errors: number }> {
  const { crowd, publish, topics } = fanOut
  let ms = 0
  for (let rest = events; rest > 0; rest -= mostUnderWay) {
    const some = Math.min(rest, mostUnderWay)
    ms += await receiving(fanOut, some, () => publish(some))
  }
  const { dropped } = await crowd.state()
  return { rate: (((events / topics) * crowd.size) / ms) * 1_000, errors: dropped }
}

/** Resolves when every subscriber has received what `publish` publishes, with the milliseconds since it was called. */
export async function receiving(
  { crowd, topics, length }: Pick<FanOut, 'crowd' | 'topics' | 'length'>,
  events: number,
  publish: () => Promise<void>,
): Promise<number> {
  await crowd.quiet()
  await crowd.restart()
  const since = clock()
  const [until] = await Promise.all([crowd.received((events / topics) * length, stalledMs), publish()])
  return until - since
}
