/**
 * A second set of models, with generated clients in a folder of its own: Book refers to Author, Chapter to Book, Loan to nothing. Two
 * models, Egg and Hen, refer to each other.
 */

import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Clients } from '../../src/db/dialect.ts'
import { limitColumns, listModels } from '../../src/model/define.ts'
import { encode } from '../../src/model/message.ts'
import { dataText, digestOf, type Model, type Models, type Values } from '../../src/model/model.ts'
import type { Item } from '../../src/queue/queue.ts'
import { copyPrisma } from './prisma-copy.ts'

const names = ['Author', 'Book', 'Chapter', 'Loan', 'Egg', 'Hen'] as const
export type LibraryName = (typeof names)[number]

const parents: Partial<Record<LibraryName, LibraryName>> = {
  Book: 'Author',
  Chapter: 'Book',
  Egg: 'Hen',
  Hen: 'Egg',
}

function schemaOf(name: LibraryName): string {
  const parent = parents[name]
  const children = names.filter((child) => parents[child] === name)
  return `model ${name} {
    id        String   @id @db.Char(36)
    name      String   @db.VarChar(100)
    ${parent ? `parentId String? @db.Char(36)\n    parent ${parent}? @relation("${name}", fields: [parentId], references: [id])` : ''}
    ${children.map((child) => `${child.toLowerCase()}s ${child}[] @relation("${child}")`).join('\n    ')}
    createdAt DateTime @db.DateTime(3)
    savedAt   DateTime @db.DateTime(3)
    @@index([createdAt, id])
  }\n`
}

export interface Library extends AsyncDisposable {
  models: Models
  clients: Clients
  model(name: LibraryName): Model
  /** An item of a save, with its message as the API makes it. */
  item(name: LibraryName, values?: Values & { id?: string }): Item
}

export async function openLibrary(): Promise<Library> {
  const copy = await copyPrisma(names.map(schemaOf).join('\n'))
  await copy.generate()
  const url = pathToFileURL(join(copy.path, 'src/models/prisma.ts')).href
  const { defineModel, prisma } = (await import(url)) as {
    defineModel: (name: string, definition: object) => Model
    prisma: Clients
  }
  const models = limitColumns(listModels(names.map((name) => defineModel(name, {}))), 65_536)
  const model = (name: LibraryName) => models.get(name)!
  return {
    models,
    clients: prisma,
    model,
    item(name, { id = randomUUID(), ...values } = {}) {
      const row = { name: `a ${name}`, parentId: null, ...values }
      const data = dataText(model(name), row)
      const at = Date.now()
      return { id, digest: digestOf(model(name), row, data), at, body: encode({ model: model(name), id, at, data }) }
    },
    [Symbol.asyncDispose]: () => copy[Symbol.asyncDispose](),
  }
}

/** Statements that make the tables, with the foreign keys between them, for MySQL or SQLite. */
export function libraryTables(database: 'mysql' | 'sqlite'): string[] {
  const isMysql = database === 'mysql'
  const id = isMysql ? 'CHAR(36) CHARACTER SET ascii COLLATE ascii_bin' : 'TEXT'
  const text = isMysql ? 'VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin' : 'TEXT'
  const date = isMysql ? 'DATETIME(3)' : 'DATETIME'
  const tables = names.map((name) => {
    const parent = parents[name]
    const reference = parent && `parentId ${id} NULL${isMysql ? '' : ` REFERENCES ${parent} (id)`},`
    return `CREATE TABLE ${name} (id ${id} NOT NULL PRIMARY KEY, name ${text} NOT NULL, ${reference ?? ''}
      createdAt ${date} NOT NULL, savedAt ${date} NOT NULL)`
  })
  const keys = names.flatMap((name) =>
    parents[name] ? [`ALTER TABLE ${name} ADD FOREIGN KEY (parentId) REFERENCES ${parents[name]} (id)`] : [],
  )
  return isMysql ? [...tables, ...keys] : tables
}
