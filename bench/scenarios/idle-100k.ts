/** 100,000 idle subscribers on one machine: what they take, and when an event has reached all of them. */
import { type Process, startSpillway } from '../contender.ts'
import { lengthOfEvent, receiving } from '../fanning-out.ts'
import type { Pace } from '../parts.ts'
import { availableMiB, openFilesLimit, residentKiB } from '../process-figures.ts'
import { CrowdGroup, RemoteCrowd } from '../remote-crowd.ts'
import type { Scenario } from '../scenario.ts'
import { contentLog, savedDocument } from './fan-out.ts'

const subscribersOf = ({ quick }: Pace) => (quick ? 5_000 : 100_000)
/** Of one API process, and of one process of subscribers. */
const mostOfProcess = 25_000
/** An address has some 28,000 ports, and Linux needs ever longer to find a free one. */
const mostOfAddress = 5_000
/** Files of a process that are not the sockets of subscribers. */
const otherFiles = 1_000
const mostProcesses = 10
/** For each subscriber: both ends of its connection, in the API, in the process of the subscribers, and in the kernel. */
const neededKiB = 60

/** API processes, and as many processes of subscribers. In quick form two, so that there are several. */
function processesFor(size: number, quick: boolean): number {
  return quick ? 2 : Math.ceil(size / Math.min(mostOfProcess, openFilesLimit() - otherFiles))
}

function unable(pace: Pace): string | undefined {
  const size = subscribersOf(pace)
  const needed = Math.ceil(size / mostProcesses) + otherFiles
  if (openFilesLimit() < needed)
    return `the limit of open files is ${openFilesLimit()}, and ${size} subscribers of ${mostProcesses} processes need ${needed}: raise it (ulimit -Hn ${needed})`
  const neededMiB = Math.ceil((size * neededKiB) / 1_024)
  if (availableMiB() < neededMiB)
    return `${Math.round(availableMiB())} MiB of memory are available, and ${size} subscribers need ${neededMiB}`
  return undefined
}

/** 127.0.0.2 and so on: no address is taken twice, since the ports of closed connections stay in use for a minute. */
let taken = 1
function addressesFor(size: number): string[] {
  return Array.from({ length: Math.ceil(size / mostOfAddress) }, () => {
    taken += 1
    return `127.0.${taken >> 8}.${taken & 255}`
  })
}

export const idle100k: Scenario = {
  name: 'idle-100k',
  title: '100,000 idle subscribers on one machine, an event to all of them',
  figure: 'reached all',
  unit: 'ms',
  note: 'Over SSE. The subscribers are in as many processes as the API, each with loopback addresses of its own. Memory: resident memory of all API processes after less before, by the number of subscribers; sockets included. The time is from the append of one event to its arrival at the last subscriber.',
  unable,
  contenders: [
    {
      name: 'Spillway',
      role: 'ours',
      start: async (parts) => {
        await parts.reset()
        const size = subscribersOf(parts.pace)
        const processes = processesFor(size, parts.pace.quick)
        const each = Math.ceil(size / processes)
        const env = { ...parts.env, MAX_CONNECTIONS: String(each + otherFiles / 10) }
        await using stack = new AsyncDisposableStack()
        const servers: Process[] = []
        for (let i = 0; i < processes; i++)
          servers.push(stack.adopt(await startSpillway('api', env), (one) => one.stop()))
        const { publish } = stack.adopt(await contentLog(parts.redis.url), (one) => one.close())
        const memory = () => servers.reduce((sum, { pid }) => sum + residentKiB(pid), 0)
        const before = memory()
        const subscriptions = [{ query: savedDocument }]
        const open = ({ url }: Process) =>
          RemoteCrowd.open({ url, subscriptions, size: each, localAddresses: addressesFor(each) })
        const crowd = stack.adopt(await CrowdGroup.open(servers.map(open)), (one) => one.close())
        await crowd.quiet()
        const ofEach = (memory() - before) / crowd.size
        const length = await lengthOfEvent(crowd, publish)
        const opened = stack.move()
        return {
          async measure() {
            const ms = await receiving({ crowd, topics: 1, length }, 1, () => publish(1))
            const { dropped } = await crowd.state()
            return { 'reached all': ms, memory: ofEach, subscribers: crowd.size, processes, dropped }
          },
          stop: () => opened.disposeAsync(),
        }
      },
    },
  ],
  targets: [
    { figure: 'reached all', unit: 'ms' },
    { figure: 'memory', unit: 'KiB' },
    { figure: 'subscribers', unit: '' },
    { figure: 'dropped', unit: '', atMost: 0 },
  ],
}
