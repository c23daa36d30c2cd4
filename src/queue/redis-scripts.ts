/** The keys and the scripts of the queue on Redis; lua/ has the scripts themselves. */
import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { Proof } from '../redis/probe.ts'
import { scriptOf } from '../redis/script.ts'

/** The keys of one shard: all have its hash tag. */
export function queueKeys(tag: string) {
  const key = (name: string) => `${tag}:${name}`
  return {
    stream: key('queue'),
    pending: key('pending'),
    saved: key('saved'),
    savedBefore: key('saved-before'),
    dead: key('dead'),
    deadIds: key('dead-ids'),
    oldDeadIndex: key('dead-index'),
    attempts: key('attempts'),
    reserved: key('reserved'),
    layouts: key('layouts'),
    probe: key('probe'),
    fence: key('fence'),
    paused: key('paused'),
    workers: key('workers'),
    workerNames: key('worker-names'),
  }
}
export type QueueKeys = ReturnType<typeof queueKeys>

/** Returns what the server must be able to do to enqueue a save; with `always`, what it must be able to do on a full server, too: to
 *  acknowledge one. */
export function queueProof(k: QueueKeys, always: boolean): Proof {
  const streams = { [k.stream]: 'stream', [k.dead]: 'stream', [k.deadIds]: 'zset' } as const
  const hashes = Object.fromEntries(
    [k.pending, k.saved, k.savedBefore, k.attempts, k.reserved, k.layouts].map((key) => [key, 'hash' as const]),
  )
  return { own: k.probe, keys: { ...streams, ...hashes }, always }
}

/** [status, digest, at, number of ID_CONFLICT dead letters, failure]. */
export type SaveStateReply = [string, string, string, number, string?]

/** The scripts as commands of a client. ioredis sends their hash and, if the server does not know it, their text. */
export interface Scripts {
  spillEnqueue(...args: (string | number)[]): Promise<'REPAIR' | (0 | string | (number | SaveStateReply)[])[]>
  spillFind(...args: (string | number)[]): Promise<'REPAIR' | (0 | SaveStateReply)[]>
  spillAck(...args: (string | number)[]): Promise<number>
  spillDeadLetter(...args: (string | number)[]): Promise<number>
  spillHandles(...args: (string | number)[]): Promise<'REPAIR' | [count: number, ...handles: string[]][]>
  spillRetry(...args: (string | number)[]): Promise<'REPAIR' | [done: number, handles: string[]]>
  spillReplace(...args: (string | number)[]): Promise<'REPAIR' | 'GONE' | 'KEPT' | number>
  spillDiscard(...args: (string | number)[]): Promise<[done: number, handles: string[]]>
  spillPage(...args: (string | number)[]): Promise<[[handle: string, fields: string[]][], more: number]>
  spillRepair(...args: (string | number)[]): Promise<string>
  spillExtendLease(...args: (string | number)[]): Promise<number>
  spillAttempt(...args: (string | number)[]): Promise<number>
  spillRelease(...args: (string | number)[]): Promise<number>
  spillUnreserve(...args: (string | number)[]): Promise<number>
  spillLayouts(...args: (string | number)[]): Promise<(string | null)[]>
  spillPause(...args: (string | number)[]): Promise<number>
  spillReportWorker(...args: (string | number)[]): Promise<number>
  spillWorkers(...args: (string | number)[]): Promise<[now: string, reports: (string | null)[]]>
  spillUnregister(...args: (string | number)[]): Promise<number>
}

const lua = (name: string) => new URL(`lua/${name}.lua`, import.meta.url)
const plain = {
  ...{ page: 1, ack: 5, 'extend-lease': 1, attempt: 2, release: 1, unregister: 1, unreserve: 1, layouts: 4 },
  ...{ pause: 2, 'report-worker': 2, workers: 2 },
}
const ofDeadLetters = { enqueue: 9, find: 6, 'dead-letter': 7, handles: 3, retry: 5, replace: 5, discard: 2, repair: 3 }

const texts = [
  ...Object.entries(plain).map(([name, keys]) => ({ name, keys, lua: scriptOf(lua(name)) })),
  ...Object.entries(ofDeadLetters).map(([name, keys]) => ({
    name,
    keys,
    lua: scriptOf(lua('dead-letters'), lua(name)),
  })),
]

const camelCase = (name: string) => name.replace(/(?:^|-)(.)/g, (_, initial: string) => initial.toUpperCase())

const scripts = new Map(
  texts.map(({ name, keys, lua }) => {
    const hash = createHash('sha1').update(lua).digest('hex')
    return [`spill${camelCase(name)}`, { keys, lua, hash }]
  }),
)

/**
 * Scripts that may remove a key and use it again. While a cluster moves their slot, a node would refuse the second use, midway. So they name
 * a key that never exists: then the node refuses the whole script. The others that write name one anyway, or remove no key but at their end.
 */
const removing: ReadonlySet<string> = new Set(['spillAck', 'spillDeadLetter', 'spillAttempt'])

export function defineScripts(client: Redis): Redis & Scripts {
  for (const [name, { keys, lua }] of scripts) {
    client.defineCommand(name, { numberOfKeys: removing.has(name) ? keys + 1 : keys, lua })
    if (removing.has(name)) addMissingKey(client as Redis & Scripts, name as 'spillAck', keys)
  }
  return client as Redis & Scripts
}

function addMissingKey(client: Redis & Scripts, name: 'spillAck', keys: number): void {
  const send = client[name].bind(client)
  client[name] = (...args) => {
    const [tag] = /^\{[^}]*\}/.exec(String(args[0])) ?? ['']
    args.splice(keys, 0, `${tag}:missing`)
    return send(...args)
  }
}

/** The script by name, for a caller that must know whether Redis knows its hash. */
export function scriptNamed(name: keyof Scripts): { keys: number; lua: string; hash: string } {
  return scripts.get(name)!
}

/** The fields of a stream entry by name. */
export function record(fields: readonly string[]): Record<string, string | undefined> {
  const object: Record<string, string | undefined> = Object.create(null)
  for (let i = 0; i < fields.length; i += 2) object[fields[i]!] = fields[i + 1]!
  return object
}
