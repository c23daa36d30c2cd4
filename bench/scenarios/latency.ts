/** From the sending of a save to its `saved` event at a subscriber, with the whole of Spillway in between, at 30 % of the accept limit. */
import { requestOf, run } from '../client.ts'
import { startPeer, startSpillway } from '../contender.ts'
import { Samples } from '../samples.ts'
import { checkGraphqlSave as check, checkGraphqlSave, contentOf, graphqlSaves } from '../save.ts'
import type { Scenario } from '../scenario.ts'
import { subscribe } from '../subscriber.ts'
import { accepting } from './accept.ts'
import { drained } from './embedded.ts'

const share = 0.3
const document = 'mutation ($content: String!, $id: ID) { save(content: $content, id: $id) { saveId status } }'

export const latency: Scenario = {
  name: 'latency',
  title: 'save → saved event, at 30 % of the accept limit',
  figure: 'p50',
  unit: 'ms',
  note: "API, one worker, one subscriber over SSE. The limit (node:http + XADD) is measured first; the latency counts from when a save was due, through queue, database, cache and events log, to the event. Looked at by the worker's metrics, in a run whose p50 was 16 ms: 12 ms on average from enqueue to commit, 3 of them for the INSERT; then half a millisecond for the cache, and 2 each for mark saved and append, since Redis answers after its write to disk. All processes together took 160 % of the two cores.",
  contenders: [
    {
      name: 'Spillway',
      role: 'ours',
      start: async (parts) => {
        const limit = accepting(parts, await startPeer('http-stream', parts.env), {
          requests: graphqlSaves,
          check,
          rows: 1,
        })
        await limit.measure()
        const { rate: most } = await limit.measure()
        await limit.stop()
        const rate = Math.round(most! * share)
        await parts.reset()
        const api = await startSpillway('api', parts.env)
        const worker = await startSpillway('worker', parts.env)
        const { seconds } = parts.pace
        const warmUpSeconds = 3
        const total = Math.ceil(rate * (seconds + warmUpSeconds)) + 1_000
        return {
          async measure() {
            // The ids are numbers, behind the time that tells rounds apart: an event says which save it is of.
            const round = Date.now().toString(16).padStart(12, '0')
            const prefix = `${round.slice(0, 8)}-${round.slice(8)}-7000-8000-`
            const requests = Array.from({ length: total }, (_, n) => {
              const id = prefix + n.toString(16).padStart(12, '0')
              return requestOf(
                api.url,
                '/graphql',
                JSON.stringify({ query: document, variables: { content: contentOf(n), id } }),
              )
            })
            const sentAt = new Float64Array(total)
            const measureFrom = performance.now() + warmUpSeconds * 1_000
            const samples = new Samples()
            let events = 0
            const subscription = await subscribe(api.url, 'subscription { saved { content { id } } }', (text, now) => {
              for (let at = text.indexOf(prefix); at >= 0; at = text.indexOf(prefix, at + 36)) {
                const since = sentAt[Number.parseInt(text.slice(at + 24, at + 36), 16)]!
                events += 1
                if (since > measureFrom) samples.add(now - since)
              }
            })
            let sent = 0
            const outcome = await run({
              url: api.url,
              connections: 64,
              requests,
              check: checkGraphqlSave,
              seconds,
              warmUpSeconds,
              rate,
              onSend: (n, due) => {
                sentAt[(n + 1) % total] = due
                sent += 1
              },
            })
            await drained(api.url)
            // The events of the last batch.
            for (let i = 0; i < 100 && events <= sent; i++) await new Promise((resolve) => setTimeout(resolve, 20))
            subscription.close()
            const missing = sent + 1 - events
            return {
              p50: samples.quantile(0.5),
              p99: samples.quantile(0.99),
              rate: outcome.rate,
              errors: outcome.errors + missing,
            }
          },
          stop: async () => {
            await Promise.all([api.stop(), worker.stop()])
          },
        }
      },
    },
  ],
  targets: [
    { figure: 'p50', unit: 'ms', atMost: 6 },
    { figure: 'p99', unit: 'ms', atMost: 25 },
    { figure: 'rate', unit: 'saves/s' },
  ],
}
