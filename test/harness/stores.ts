/** Real stores for tests of what stands on them, and a look at what they are asked. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { PrismaStore, type PrismaStoreOptions } from '../../src/db/prisma.ts'
import type { Writer } from '../../src/db/store.ts'
import { sizeOf } from '../../src/model/model.ts'
import { given, models } from './contents.ts'
import { freshDatabase } from './fresh.ts'
import type { Row } from './mariadb.ts'
import { quiet } from './quiet.ts'

export interface TestStore {
  readonly store: PrismaStore
  readonly url: string
  /** One statement on a connection of its own, past the store. */
  sql(statement: string): Promise<Row[]>
  /** Closes the store and removes the data. */
  cleanup(): Promise<void>
}

type ContentStoreOptions = Omit<PrismaStoreOptions, 'models' | 'clients'>

/** A store of the models that Spillway has out of the box, not prepared. */
export const contentStore = (options: ContentStoreOptions) =>
  PrismaStore.open({ models, clients: given.prisma, ...options })

/** The generated client of a store, on MySQL and SQLite alike. */
export const prismaOf = (store: PrismaStore) => store.prisma as InstanceType<typeof given.prisma.mysql>

async function open(url: string): Promise<PrismaStore> {
  const store = await contentStore({ url, concurrency: 2, log: quiet() })
  await store.prepare(AbortSignal.timeout(30_000))
  return store
}

/** On a database of its own on the shared server, or on the given one. */
export async function mariadbStore(database?: { url: string; sql: TestStore['sql'] }): Promise<TestStore> {
  const { url, sql } = database ?? (await freshDatabase())
  const store = await open(url)
  return { store, url, sql, cleanup: () => store.close() }
}

export async function sqliteStore(): Promise<TestStore> {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-store-'))
  const path = join(dir, 'store.db')
  const store = await open(`file:${path}`)
  return {
    store,
    url: `file:${path}`,
    async sql(statement) {
      const db = new DatabaseSync(path, { timeout: 5_000 })
      try {
        return db.prepare(statement).all() as Row[]
      } finally {
        db.close()
      }
    },
    async cleanup() {
      await store.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** The store itself, with an account of what it was asked to write: rows and bytes of each statement. */
export function watched(store: Writer): Writer & {
  inserts: { rows: number; bytes: number }[]
  lookUps: number
  probes: number
} {
  return {
    inserts: [],
    lookUps: 0,
    probes: 0,
    limits: (model) => store.limits(model),
    insert(model, rows) {
      this.inserts.push({ rows: rows.length, bytes: rows.reduce((sum, row) => sum + sizeOf(model, row), 0) })
      return store.insert(model, rows)
    },
    existing(model, ids) {
      this.lookUps += 1
      return store.existing(model, ids)
    },
    probe(model) {
      this.probes += 1
      return store.probe(model)
    },
  }
}
