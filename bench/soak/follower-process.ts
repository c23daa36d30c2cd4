/** The process of the subscribers. It ends with the process that started it. */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Follower } from './follower.ts'
import type { Answer, Crowd, Finish } from './followers.ts'

/** The load is over: what does not arrive in this time does not arrive. */
const stalledMs = 30_000
const mostFaults = 20

process.on('disconnect', () => process.exit(0))
// Ctrl-C reaches the whole group: the process that started this one ends it.
process.on('SIGINT', () => {})

const [{ ofRooms, ofAll, ...rest }] = (await once(process, 'message')) as [Crowd]
const expired: string[] = []
const onExpired = ({ name }: Follower, cursor: string) =>
  expired.push(`the cursor ${cursor} of ${name} expired at ${new Date().toISOString()}`)
const followers = Array.from({ length: ofRooms + ofAll }, (_, i) => {
  const wire = i % 2 === 0 ? 'SSE' : 'WebSocket'
  return new Follower({ ...rest, wire, room: i < ofRooms ? i : undefined, onExpired })
})
const sum = (of: (one: Follower) => number) => followers.reduce((total, one) => total + of(one), 0)
while (followers.some(({ connections }) => connections === 0)) await sleep(50)

const finishing = once(process, 'message')
process.send!('connected')
const [{ total, without }] = (await finishing) as [Finish]
for (const one of followers) one.stay()
const gaps = () => sum((one) => one.received.missed(total, without))
const events = () => sum((one) => one.received.events)
for (let before = events(), since = performance.now(); gaps() > 0; await sleep(200)) {
  if (events() > before) [before, since] = [events(), performance.now()]
  else if (performance.now() - since > stalledMs) break
}
const answer: Answer = {
  events: events(),
  connections: sum((one) => one.connections),
  repeated: sum((one) => one.received.repeated),
  gaps: gaps(),
  faults: [
    ...followers.flatMap(({ name, faults }) => faults.map((fault) => `${name}: ${fault}`)).slice(0, mostFaults),
    ...expired.slice(0, mostFaults),
    ...followers.flatMap(missedBy).slice(0, mostFaults),
  ],
  faulty: sum(({ faults }) => faults.length) + expired.length,
}
process.send!(answer)

function missedBy({ name, received }: Follower): string[] {
  const missed = received.missed(total, without)
  return missed > 0 ? [`${name} missed ${missed} of the ${total} messages of the run`] : []
}
