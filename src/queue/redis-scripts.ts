/** The keys and the scripts of the queue on Redis; lua/ has the scripts themselves. */
import { readFileSync } from 'node:fs'
import type { Redis } from 'ioredis'

/** The keys of one shard. */
export function queueKeys(prefix: string) {
  const key = (name: string) => `{${prefix}:0}:${name}`
  return {
    stream: key('queue'),
    pending: key('pending'),
    saved: key('saved'),
    savedBefore: key('saved-before'),
    dead: key('dead'),
    deadIndex: key('dead-index'),
    attempts: key('attempts'),
  }
}
export type QueueKeys = ReturnType<typeof queueKeys>

const script = (name: string) => readFileSync(new URL(`lua/${name}.lua`, import.meta.url), 'utf8')

/** The scripts as commands of a client; ioredis sends their hash and, where the server does not know it, their text. */
export interface Scripts {
  spillAccept(...args: (string | number)[]): Promise<(0 | string | (0 | string[])[])[]>
  spillFind(...args: (string | number)[]): Promise<(0 | string[])[]>
  spillSettle(...args: (string | number)[]): Promise<null>
  spillBury(...args: (string | number)[]): Promise<number>
  spillRedrive(...args: (string | number)[]): Promise<number>
  spillHold(...args: (string | number)[]): Promise<number>
  spillAttempt(...args: (string | number)[]): Promise<number>
  spillRelease(...args: (string | number)[]): Promise<number>
  spillLeave(...args: (string | number)[]): Promise<number>
}

export function defineScripts(client: Redis): Redis & Scripts {
  const keys = { accept: 6, find: 5, settle: 5, bury: 7, redrive: 4, hold: 1, attempt: 2, release: 1, leave: 1 }
  for (const [name, numberOfKeys] of Object.entries(keys)) {
    client.defineCommand(`spill${name[0]!.toUpperCase()}${name.slice(1)}`, { numberOfKeys, lua: script(name) })
  }
  return client as Redis & Scripts
}

/** The fields of a stream entry by name. */
export function record(fields: readonly string[]): Record<string, string | undefined> {
  const object: Record<string, string | undefined> = Object.create(null)
  for (let i = 0; i < fields.length; i += 2) object[fields[i]!] = fields[i + 1]!
  return object
}
