/** What the soak showed, as text for a terminal and as docs/soak.md. */
import { hardware, versions } from '../machine.ts'
import { table } from '../report.ts'
import { median } from '../samples.ts'
import { number } from '../scenario.ts'
import { abuses } from './abuser.ts'
import { letterOf } from './chart.ts'
import type { Aftermath } from './faults.ts'
import { growthOf, type Sample } from './figures.ts'

export interface Result {
  seconds: number
  rate: number
  /** Undefined: the rate was given. */
  limit: number | undefined
  faultEverySeconds: number
  subscribers: { ofRooms: number; ofAll: number }
  acknowledged: number
  repeated: number
  duplicates: number
  refused: number
  rows: number
  lost: number
  doubled: number
  altered: number
  deadLetters: number
  gaps: number
  /** Subscriptions that were refused, or whose cursors went back. */
  faulty: number
  events: number
  repeatedEvents: number
  connections: number
  abuses: number
  samples: readonly Sample[]
  aftermaths: readonly Aftermath[]
  /** What ended, was refused or was received and should not have been. */
  troubles: readonly string[]
}

/** Of a shorter run, the slopes of memory say nothing. */
export const warmSeconds = 1_800

/** What must be zero. */
export const failuresOf = ({ lost, doubled, altered, deadLetters, refused, gaps, faulty }: Result): number =>
  lost + doubled + altered + deadLetters + refused + gaps + faulty

const count = (value: number) => Math.round(value).toLocaleString('en-US')

export function figuresOf(result: Result): [string, string, string][] {
  const { samples } = result
  const redis = samples.flatMap(({ redisMiB }) => redisMiB ?? [])
  const late = samples.filter(({ at }) => at >= result.seconds / 2).flatMap(({ redisMiB }) => redisMiB ?? [])
  const answered = samples.filter(({ p50 }) => !Number.isNaN(p50))
  return [
    ['acknowledged saves', count(result.acknowledged), 'Each has an id of the client.'],
    ['rows', count(result.rows), 'Read from the database at the end, one by one.'],
    ['lost', count(result.lost), 'Acknowledged, and neither a row nor a dead letter.'],
    ['doubled', count(result.doubled), 'A row and a dead letter of one id; two rows of one id cannot be.'],
    ['altered', count(result.altered), 'Rows with a body that is not the one of their id.'],
    ['dead letters', count(result.deadLetters), 'No save was wrong.'],
    ['refused', count(result.refused), 'Answers after which a client must not repeat a save.'],
    ['gaps', count(result.gaps), 'Rows that a subscriber missed, of all subscribers over all their connections.'],
    ['order broken', count(result.faulty), 'Cursors that went back, and subscriptions that were refused.'],
    [
      'saves repeated',
      count(result.repeated),
      `Without an answer, or asked to; ${count(result.duplicates)} were in the queue already.`,
    ],
    [
      'events received',
      count(result.events),
      `${count(result.repeatedEvents)} of them again, with a later cursor: each is promised at least once.`,
    ],
    [
      'subscriptions opened',
      count(result.connections),
      'By subscribers that come and go, and that a fault disconnected.',
    ],
    [
      'save, p50',
      `${number(median(answered.map(({ p50 }) => p50)))} ms`,
      'From when it was due; the median of all periods of five seconds.',
    ],
    ['save, p99', `${number(median(answered.map(({ p99 }) => p99)))} ms`, 'As above.'],
    [
      'Redis, most memory',
      `${number(Math.max(...redis))} MiB`,
      `In the second half ${number(Math.min(...late))} to ${number(Math.max(...late))} MiB: queue, remembered ids and the events log, which has a bound.`,
    ],
    ['abuses', count(result.abuses), 'Twice a second, in turns.'],
  ]
}

const memoryHead = ['process', 'MiB an hour', 'minutes', 'MiB at their beginning', 'at their end', 'most']

const memoryRows = ({ samples }: Result): string[][] =>
  growthOf(samples).map(({ name, most, line }) => {
    if (!line) return [name, '–', '–', '–', '–', count(most)]
    const slope = `${line.perHour > 0 ? '+' : ''}${number(line.perHour)}`
    return [
      name,
      slope,
      `${Math.round(line.from)} to ${Math.round(line.until)}`,
      count(line.first),
      count(line.last),
      count(most),
    ]
  })

const faultHead = [
  '',
  'fault',
  'times',
  'longest pause of saves, ms',
  'saves repeated',
  'deepest queue',
  'short again after, s',
]

function faultRows({ aftermaths }: Result): string[][] {
  const names = [...new Set(aftermaths.map(({ name }) => name))]
  return names.map((name, kind) => {
    const each = aftermaths.filter((one) => one.name === name)
    const most = (of: (one: Aftermath) => number) => count(Math.max(...each.map(of)))
    const times = each.map(({ emptyAfter }) => emptyAfter)
    return [
      letterOf(kind),
      name,
      String(each.length),
      most(({ pausedMs }) => pausedMs),
      most(({ repeated }) => repeated),
      most(({ deepest }) => deepest),
      times.includes(undefined) ? 'not before the next' : count(Math.max(...times.map((s) => s!))),
    ]
  })
}

export function terminal(result: Result): string {
  const lines = figuresOf(result).map(([name, value]) => `${name.padEnd(22)}${value.padStart(14)}`)
  const memory = memoryRows(result).map(
    ([name, slope, minutes, first, last, most]) =>
      `${name!.padEnd(14)}${`${slope} MiB an hour`.padEnd(22)}minutes ${minutes}: ${first} to ${last} MiB, most ${most}`,
  )
  if (result.seconds < warmSeconds) memory.push('(too short a run for slopes: the processes were warming up)')
  return [...lines, '', ...memory, '', ...result.troubles].join('\n').trimEnd()
}

export function markdown(result: Result): string {
  const { rate, limit, faultEverySeconds, subscribers } = result
  const share =
    limit === undefined
      ? ''
      : `, ${Math.round((rate / limit) * 100)} % of the ${count(limit)}/s that one API process accepted before, while the workers drained`
  const failures = failuresOf(result)
  const verdict =
    failures === 0 ? 'Nothing was lost, doubled or missed.' : `${count(failures)} of what must be zero below is not.`
  const warmingUp =
    result.seconds < warmSeconds ? '\n\nThis run was too short for a slope: the processes were warming up.' : ''
  return `# Soak

\`npm run soak\` made this file, on ${new Date().toISOString().slice(0, 10)}: ${number(result.seconds / 60)} minutes at ${count(rate)} saves/s${share},
a fault every ${number(faultEverySeconds)} s, ${count(subscribers.ofRooms + subscribers.ofAll)} subscribers that come and go, and a client that abuses the API. ${verdict}

![Memory and queue over the time, with the faults](soak.svg)

## What came of it

${table(['', '', 'what it is'], figuresOf(result))}

## Memory

A line of least squares through the resident memory of each process that lived for half of the run, after a sixth of the run for warming up: its slope, and
where it begins and ends. API 1 and worker 1 are never killed. "most" is of all processes of that name.${warmingUp}

${table(memoryHead, memoryRows(result))}

## Faults

The worst of each kind until the next fault. The queue is short again when the fault is over and it has less than a second's saves.

${table(faultHead, faultRows(result))}

## How

- ${hardware()}; ${versions()}. Servers, Spillway and clients share the cores.
- Two API processes, two workers, Redis with \`appendfsync always\`, a Redis for the cache, MariaDB with durable commits. What ends is started again.
- A model \`Message\` with rooms. ${count(subscribers.ofRooms)} subscribers follow a room each and ${subscribers.ofAll} follow all rooms, half over Server-Sent Events, half over WebSocket. Each is connected for 10
  to 60 s, away for up to 15 s, and subscribes again with its last cursor. At the end each of them is compared with the rows.
- 64 connections send the saves, whether or not they are answered. A save is repeated under its id until it is acknowledged.
- The abuser ${Object.keys(abuses).join(', ')}.
${result.troubles.length === 0 ? '' : `\n## Troubles\n\n\`\`\`\n${result.troubles.join('\n')}\n\`\`\`\n`}`
}
