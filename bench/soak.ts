/**
 * npm run soak: an hour of load, faults, subscribers and abuse on Redis + MariaDB; then every acknowledged save is looked for, and every event.
 *
 *   npm run soak -- [--minutes N] [--rate SAVES_A_SECOND] [--every SECONDS] [--write]
 *
 * Without --rate it measures what one API process accepts while the workers drain, and sends 30 % of it. --every: a fault, each so many seconds. A run of half an hour or
 * more, or with --write, writes docs/soak.md and docs/soak.svg. Exits with 1 where a save is lost or doubled, or a subscriber missed a row.
 */
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { cursorNow } from '../test/harness/subscriber.ts'
import { number } from './scenario.ts'
import { Abuser } from './soak/abuser.ts'
import { Aftermaths } from './soak/aftermaths.ts'
import { chart } from './soak/chart.ts'
import type { Aftermath } from './soak/faults.ts'
import { Sampler } from './soak/figures.ts'
import { Followers } from './soak/followers.ts'
import { Load } from './soak/load.ts'
import { newPrefix } from './soak/messages.ts'
import { failuresOf, markdown, type Result, terminal, warmSeconds } from './soak/report.ts'
import { System } from './soak/system.ts'

const share = 0.3
const subscribers = { ofRooms: 996, ofAll: 4 }
const rooms = subscribers.ofRooms
const sampleEverySeconds = 5
const acknowledgedWithinMs = 120_000

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    rate: { type: 'string' },
    every: { type: 'string', default: '60' },
    write: { type: 'boolean', default: false },
  },
})
const minutes = wholeNumber('minutes', values.minutes)
const givenRate = values.rate === undefined ? undefined : wholeNumber('rate', values.rate)
const faultEverySeconds = wholeNumber('every', values.every)

// On the disk, where an fsync costs what it costs.
process.env.TMPDIR ??= tmpdir()
const stopping = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort())
const began = performance.now()
let code = 1
try {
  await using stack = new AsyncDisposableStack()
  const result = await soak(stack)
  console.log(`\n${terminal(result)}`)
  code = failuresOf(result) === 0 ? 0 : 1
  if (values.write || minutes * 60 >= warmSeconds) {
    await writeFile(new URL('../docs/soak.md', import.meta.url), markdown(result))
    await writeFile(new URL('../docs/soak.svg', import.meta.url), chart(result.samples, result.aftermaths))
    console.log('\nWritten: docs/soak.md, docs/soak.svg')
  }
} catch (error) {
  if (stopping.signal.aborted) console.error('Stopped by a signal; nothing was written.')
  else console.error(error)
}
// A fault that was under way when it failed may still wait for its end.
process.exit(code)

async function soak(stack: AsyncDisposableStack): Promise<Result> {
  const { signal } = stopping
  progress('starting Redis, a cache and MariaDB')
  const system = await System.prepare(stack)
  signal.throwIfAborted()
  await system.start(stack)
  signal.throwIfAborted()
  const limit = givenRate === undefined ? await system.acceptLimit() : undefined
  const rate = givenRate ?? Math.round(limit! * share)
  progress(
    `${limit === undefined ? '' : `one API process accepts ${number(limit)}/s; `}saving ${number(rate)}/s for ${minutes} minutes`,
  )
  signal.throwIfAborted()
  const { urls } = system
  const prefix = newPrefix()
  const after = await cursorNow(urls[0]!)
  const followers = stack.adopt(new Followers(), (one) => one.stop())
  await followers.start({ urls, prefix, rooms, after, ...subscribers })
  const load = stack.adopt(new Load({ urls, rate, prefix, rooms }), (one) => one.stop(0))
  const abuser = stack.adopt(new Abuser(urls), (one) => one.stop())
  const sampler = new Sampler(system, load, { 'this client': process.pid, subscribers: followers.pid })
  const aftermaths = new Aftermaths(system, load, rate)

  const started = performance.now()
  const seconds = minutes * 60
  const isDue = { fault: every(faultEverySeconds), sample: every(sampleEverySeconds), progress: every(60) }
  for (let at = 0; at < seconds; ) {
    await sleep(1_000 - ((performance.now() - started) % 1_000), undefined, { signal })
    at = Math.round((performance.now() - started) / 1_000)
    aftermaths.look(at, await system.depth())
    // The last one is left the time to show what follows it.
    if (isDue.fault(at) && seconds - at >= Math.min(faultEverySeconds, 30)) {
      await aftermaths.settled()
      print(aftermaths.next(at))
      progress(aftermaths.all.at(-1)!.name)
    }
    if (!isDue.sample(at)) continue
    const { depth, rate, p99, redisMiB, memory } = await sampler.take(at)
    if (!isDue.progress(at)) continue
    const mib = Object.entries(memory).map(([name, { mib }]) => `${name} ${Math.round(mib)}`)
    progress(
      `${number(rate)}/s, p99 ${number(p99)} ms, queue ${depth ?? '–'}, Redis ${number(redisMiB ?? Number.NaN)} MiB; resident: ${mib.join(', ')}`,
    )
  }
  print(aftermaths.end())
  await aftermaths.settled()
  abuser.stop()

  progress('waiting until everything is acknowledged, and the queue is empty')
  await load.stop(acknowledgedWithinMs)
  // What stays in the queue is counted as lost below.
  await system.empty().catch((error: Error) => console.error(error.message))
  progress('comparing the rows with what was acknowledged')
  const { numbers, ...rows } = await system.rows(prefix)
  const without: number[] = []
  for (let n = 0; n < load.sent; n++) if (!numbers.has(n)) without.push(n)
  progress('waiting for the subscribers')
  const { gaps, faulty, faults, events, repeated, connections } = await followers.finish({ total: load.sent, without })
  signal.throwIfAborted()
  const { acknowledged, sent, refused, refusals, duplicates } = load
  const missing = without.filter((n) => acknowledged.has(n)).length
  return {
    seconds,
    rate,
    limit,
    faultEverySeconds,
    subscribers,
    acknowledged: acknowledged.size,
    repeated: load.repeated,
    duplicates,
    refused,
    rows: numbers.size,
    ...rows,
    lost: Math.max(0, missing - (rows.deadLetters - rows.doubled)),
    gaps,
    faulty,
    events,
    repeatedEvents: repeated,
    connections,
    abuses: abuser.done,
    samples: sampler.samples,
    aftermaths: aftermaths.all,
    troubles: [
      ...(sent === acknowledged.size + refused
        ? []
        : [`${sent - acknowledged.size - refused} saves were not acknowledged in the end`]),
      ...refusals.map((text) => `refused: ${text}`),
      ...faults.map((text) => `a subscriber: ${text}`),
      ...system.processes.flatMap(({ failures }) => failures),
    ],
  }
}

function print(aftermath: Aftermath | undefined): void {
  if (!aftermath) return
  const { name, pausedMs, repeated, deepest, emptyAfter } = aftermath
  const short = emptyAfter === undefined ? 'not short again' : `short again after ${emptyAfter} s`
  progress(`  ${name}: saves paused ${Math.round(pausedMs)} ms, ${repeated} repeated, queue up to ${deepest}, ${short}`)
}

function progress(line: string): void {
  console.error(`${String(Math.round((performance.now() - began) / 1_000)).padStart(5)} s  ${line}`)
}

/** Whether so many seconds have passed since it last was true. */
function every(seconds: number): (at: number) => boolean {
  let next = seconds
  return (at) => {
    if (at < next) return false
    next = at - (at % seconds) + seconds
    return true
  }
}

function wholeNumber(name: string, text: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text)
  console.error(`--${name} must be a whole number from 1 to 999999; it is ${JSON.stringify(text)}.`)
  process.exit(2)
}
