/** Where a process spends its time: CPU profiles, summed up by function and by who it belongs to. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[]
  samples: number[]
  timeDeltas: number[]
}

export interface Share {
  name: string
  /** Of the time the process was not idle: 0 to 1. */
  share: number
}

export interface Profile {
  /** Of the wall-clock time of all threads that were profiled. */
  busy: number
  owners: Share[]
  functions: Share[]
}

/** The busiest profile in a folder: with threads there are several. */
export async function readProfile(dir: string): Promise<Profile | undefined> {
  const files = (await readdir(dir)).filter((file) => file.endsWith('.cpuprofile'))
  const profiles = await Promise.all(
    files.map(async (file) => summarise(JSON.parse(await readFile(join(dir, file), 'utf8')))),
  )
  return profiles.sort((a, b) => b.busyMs - a.busyMs)[0]?.profile
}

function summarise({ nodes, samples, timeDeltas }: CpuProfile): { busyMs: number; profile: Profile } {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]))
  const owners = new Map<string, number>()
  const functions = new Map<string, number>()
  let all = 0
  let busy = 0
  // The first half is starting and warming up.
  samples.slice(samples.length >> 1).forEach((id, i) => {
    const time = timeDeltas[i + (samples.length >> 1)]!
    const frame = frames.get(id)!
    all += time
    if (frame.functionName === '(idle)') return
    busy += time
    const owner = ownerOf(frame)
    owners.set(owner, (owners.get(owner) ?? 0) + time)
    const name = `${frame.functionName || '(anonymous)'} · ${owner}`
    functions.set(name, (functions.get(name) ?? 0) + time)
  })
  const shares = (times: Map<string, number>, most: number) =>
    [...times]
      .sort(([, a], [, b]) => b - a)
      .slice(0, most)
      .map(([name, time]) => ({ name, share: time / busy }))
  return {
    busyMs: busy / 1_000,
    profile: { busy: busy / all, owners: shares(owners, 10), functions: shares(functions, 14) },
  }
}

function ownerOf({ url, functionName }: { url: string; functionName: string }): string {
  const [, pack] = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url) ?? []
  if (pack) return pack
  const [, ours] = /.*\/((?:src|worker)\/.*\.ts)$/.exec(url) ?? []
  if (ours) return ours
  if (url.includes('/generated/')) return 'prisma'
  const [, node] = /^node:(?:internal\/)?([^/]+)/.exec(url) ?? []
  if (node) return `node:${node}`
  if (functionName === '(garbage collector)') return 'garbage collector'
  return functionName === '(program)' ? 'native code and system calls' : 'native'
}
