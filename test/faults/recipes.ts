/** The recipes of docs/operations.md that move a Spillway from one set-up to another, and clients that follow such a move. */
import { readFileSync } from 'node:fs'
import { expect } from 'vitest'
import { Client } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import type { SpillwayProcess } from '../harness/process.ts'
import type { Stack } from '../harness/stack.ts'
import { cursorNow, type ReadBack, Subscriber, wires } from '../harness/subscriber.ts'
import { patience } from './under-load.ts'

const page = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8')

/** The settings that a recipe gives in a file of this name. `addresses`: the servers of the test, in place of the recipe's, by the kind of URL. */
export function settingsOf(file: string, addresses: Record<string, string>): Record<string, string> {
  const [, lines] = new RegExp(`^ *# ${file}: .*\\n((?: *[A-Z_]+=.*\\n)+)`, 'm').exec(page) ?? []
  if (lines === undefined) throw new Error(`docs/operations.md has no settings in ${file}`)
  const settings = [...lines.matchAll(/^ *([A-Z_]+)=(.*)$/gm)].map(([, name, value]) => {
    const kind = /^[a-z+]+:/.exec(value!)?.[0]
    if (kind && !addresses[kind]) throw new Error(`${name} in ${file} has a URL of another kind: ${kind}`)
    return [name!, kind ? addresses[kind]! : value!] as const
  })
  return Object.fromEntries(settings)
}

/** Ends processes by SIGTERM; each must end well. */
export async function stop(stack: Stack, processes: readonly SpillwayProcess[]): Promise<void> {
  expect(await Promise.all(processes.map((process) => stack.kill(process, 'SIGTERM')))).toEqual(processes.map(() => 0))
}

/** Starts an API process; resolves when its /readyz is 200. */
export async function startReady(stack: Stack): Promise<void> {
  const api = await stack.startApi()
  await holds(async () => expect((await api.client.fetch('/readyz')).status).toBe(200), patience)
}

/** Replaces all processes: as many with the present settings of the stack start beside them, then they end. */
export async function replaceAll(stack: Stack): Promise<void> {
  const [apis, workers] = [[...stack.apis], [...stack.workers]]
  await Promise.all([...apis.map(() => startReady(stack)), ...workers.map(() => stack.startWorker())])
  await stop(stack, [...apis, ...workers])
}

/** Two clients that follow what is saved by the rules of docs/protocol.md, at whichever API process is the first now. */
export async function followers(stack: Stack): Promise<Followers> {
  return new Followers(stack, await cursorNow(stack.url))
}

class Followers {
  readonly #all: Subscriber[]
  /** How many events each had when its cursor expired, and where it began again. */
  readonly #begun = new Map<Subscriber, { seen: number; savedCursor: string }>()

  constructor(stack: Stack, after: string) {
    this.#all = wires.map((wire) => {
      const subscriber = new Subscriber(wire, after, () => stack.apis[0]?.url)
      subscriber.readBack = async (url) => {
        const back = await readBack(url)
        this.#begun.set(subscriber, { seen: subscriber.seen.length, savedCursor: back.savedCursor })
        return back
      }
      return subscriber.start()
    })
  }

  /** Every id came to both, in one order, and each cursor expired so often. */
  async expectAll(ids: readonly string[], expired: number): Promise<void> {
    for (const { ids: came, faults } of this.#all) {
      await holds(() => expect(ids.filter((id) => !came.has(id))).toEqual([]), { progress: () => came.size })
      expect(faults).toEqual([])
    }
    expect(this.#all.map((subscriber) => subscriber.expired)).toEqual(this.#all.map(() => expired))
    await holds(() => {
      const [one, other] = this.#inCommon()
      expect(one).toEqual(other)
      expect(one!.length).toBeGreaterThan(0)
    })
  }

  /** Of the present log: what each has got since the later one began. */
  #inCommon(): string[][] {
    const begun = this.#all.map((subscriber) => this.#begun.get(subscriber) ?? { seen: 0, savedCursor: '' })
    const from = begun
      .map(({ savedCursor }) => savedCursor)
      .sort()
      .at(-1)!
    return this.#all.map(({ seen }, i) => seen.slice(begun[i]!.seen).filter((event) => event.split(' ', 1)[0]! > from))
  }

  async stop(): Promise<void> {
    await Promise.all(this.#all.map((subscriber) => subscriber.stop()))
  }
}

export type { Followers }

const pageQuery = `query ($after: String) {
  contents(first: 100, after: $after) { savedCursor edges { node { id } } pageInfo { endCursor hasNextPage } }
}`

async function readBack(url: string): Promise<ReadBack> {
  const client = new Client(url)
  const ids: string[] = []
  let savedCursor: string | undefined
  for (let after: string | undefined; ; ) {
    const { data, errors } = await client.graphql(pageQuery, { after })
    if (!data?.contents) throw new Error(JSON.stringify(errors))
    savedCursor ??= data.contents.savedCursor as string
    ids.push(...data.contents.edges.map(({ node }: { node: { id: string } }) => node.id))
    if (!data.contents.pageInfo.hasNextPage) return { savedCursor, ids }
    after = data.contents.pageInfo.endCursor
  }
}
