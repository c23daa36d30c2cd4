/** How late events come to many subscribers, at a rate that Spillway keeps up with. */
import { startSpillway } from '../contender.ts'
import { clock, LocalCrowd } from '../crowd.ts'
import { type FanOut, openFanOut, receiving } from '../fanning-out.ts'
import { Samples } from '../samples.ts'
import type { Scenario } from '../scenario.ts'
import { contentLog, savedDocument } from './fan-out.ts'

const subscribers = 1_000
const entriesPerSecond = 10
const entrySize = 2

export const delivery: Scenario = {
  name: 'delivery',
  title: 'delivery of a batch at 20,000 deliveries/s',
  figure: 'p99',
  unit: 'ms',
  note: `${subscribers.toLocaleString('en-US')} subscribers, ${entriesPerSecond} log entries of ${entrySize} events a second; from the append to the arrival at each subscriber.`,
  contenders: [
    {
      name: 'Spillway',
      role: 'ours',
      start: async (parts) => {
        await parts.reset()
        await using stack = new AsyncDisposableStack()
        const fanOut = await openFanOut(stack, {
          server: startSpillway('api', parts.env),
          publisher: () => contentLog(parts.redis.url, entrySize),
          crowd: (url) => LocalCrowd.open({ url, subscriptions: [{ query: savedDocument }], size: subscribers }),
        })
        const opened = stack.move()
        return {
          async measure() {
            await pacedDelivery(fanOut, parts.pace.warmUpSeconds)
            return await pacedDelivery(fanOut, parts.pace.seconds)
          },
          stop: () => opened.disposeAsync(),
        }
      },
    },
  ],
  targets: [{ figure: 'p99', unit: 'ms', atMost: 100 }],
}

async function pacedDelivery(fanOut: FanOut<LocalCrowd>, seconds: number) {
  const { crowd } = fanOut
  const entries = Math.ceil(seconds * entriesPerSecond)
  const size = entrySize * fanOut.length
  const appendedAt: number[] = []
  const samples = new Samples()
  crowd.onBytes = (bytes) => {
    // Whole entries only; what is left over is on its way.
    const since = appendedAt[Math.floor(bytes / size + 0.01) - 1]
    if (since !== undefined) samples.add(clock() - since)
  }
  await receiving(fanOut, entries * entrySize, async () => {
    const started = clock()
    for (let i = 0; i < entries; i++) {
      appendedAt.push(clock())
      await fanOut.publish(entrySize)
      const rest = started + ((i + 1) * 1_000) / entriesPerSecond - clock()
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, rest)))
    }
  })
  crowd.onBytes = () => {}
  return { p50: samples.quantile(0.5), p99: samples.quantile(0.99) }
}
