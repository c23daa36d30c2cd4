/** Clients of real servers, through a proxy that a test controls. */
import { expect } from 'vitest'
import { type Client, type ClientOptions, createClient } from '../../client/index.ts'
import { watch } from '../../client/states.ts'
import { StoreFault } from '../../src/db/store.ts'
import { type Consoles, serveConsoles } from '../console/consoles.ts'
import { models } from '../harness/models.ts'
import { type Between, putBetween } from './between.ts'

export interface Fixture {
  consoles: Consoles
  between: Between
  connect(options?: ClientOptions, url?: string): Client
  /** Closes the clients of a test; fails for a transition that no table lists. */
  reset(): void
  close(): Promise<void>
}

/** The database rejects a comment with this body. */
export const poison = 'poison'

/** The models of harness/models.ts: `consoles.open` lets everybody in, `consoles.locked` wants tokens; the proxy is before the first. */
export async function serveBetween(): Promise<Fixture> {
  const consoles = await serveConsoles()
  const { store } = consoles.served
  const insert = store.insert.bind(store)
  store.insert = async (model, rows) => {
    if (rows.some(({ body }) => body === poison)) throw new StoreFault('rejected', 'no poison')
    await insert(model, rows)
  }
  const between = await putBetween(consoles.open.url)
  const clients: { $close(): void }[] = []
  const unknown: string[] = []
  watch.change = (_, from, to, isListed) => {
    if (!isListed) unknown.push(`${from} to ${to}`)
  }
  return {
    consoles,
    between,
    connect(options = {}, url = between.url) {
      const client = createClient(url, options)
      clients.push(client)
      return client
    },
    reset() {
      for (const client of clients.splice(0)) client.$close()
      between.instead = undefined
      between.change = undefined
      between.pace = undefined
      between.upstream = consoles.open.url
      between.asked.length = 0
      expect(unknown.splice(0), 'transitions that no table lists').toEqual([])
    },
    async close() {
      await between.close()
      await consoles.close()
    },
  }
}

/** Of the comments on a post, as the database has them. */
export async function bodiesOf({ consoles }: Fixture, postId: string): Promise<string[]> {
  const rows = await consoles.served.store.page(models.get('Comment')!, {
    take: 1e6,
    skip: 0,
    where: { postId },
  } as never)
  return rows!.map(({ body }) => String(body)).sort()
}

export const newId = () => crypto.randomUUID()

/** Of another log than the server's: it has expired. */
export const expired = (cursor: string) => `xxxxxxxxxxxx${cursor.slice(12)}`
