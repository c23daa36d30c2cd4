/** A copy of the tree with a model whose subscriptions can be narrowed: messages of rooms. */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { KnownEvent } from '../../src/events/events.ts'
import { listModels } from '../../src/model/define.ts'
import type { Model } from '../../src/model/model.ts'
import type { Json } from './client.ts'
import type { Feed } from './subscriber.ts'
import { addToIndex, copyTree, type Tree } from './tree.ts'

const schema = `
model Message {
  id        String   @id @db.Char(36)
  room      String   @db.VarChar(20)
  author    String   @db.VarChar(20)
  body      String   @db.MediumText
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)
  @@index([room, createdAt, id])
  @@index([author, room, createdAt, id])
}
`
const source = `import { defineModel } from './prisma.ts'

export const Message = defineModel('Message', { by: [['room'], ['author', 'room']] })
`

export async function treeWithRooms(): Promise<Tree> {
  const tree = await copyTree(schema)
  await tree.write('src/models/message.ts', source)
  await addToIndex(tree, 'Message')
  await tree.node(['src/commands/migration.ts', 'rooms'])
  return tree
}

/** The messages of a room, and of one author there. */
export function roomQuery(room: string, author?: string): string {
  const narrowing = author === undefined ? `room: "${room}"` : `room: "${room}", author: "${author}"`
  return `subscription ($after: String) { messageSaved(${narrowing}, after: $after) { cursor message { id } } }`
}

export function roomFeed(room: string, author?: string): Feed {
  return {
    query: roomQuery(room, author),
    read: ({ messageSaved }: Json) => ({ cursor: messageSaved.cursor, id: messageSaved.message.id }),
  }
}

/** The model as the tree defines it, and a `saved` event of a message of about this many bytes, which begins with its number. */
export async function roomEvents(tree: Tree) {
  const url = pathToFileURL(join(tree.path, 'src/models/index.ts')).href
  const { models: given } = (await import(url)) as { models: Model[] }
  const models = listModels(given)
  const model = models.get('Message')!
  const event = (room: string, number: number, bytes = 50_000): KnownEvent => {
    const now = new Date()
    const body = `${number} ${'x'.repeat(bytes)}`
    return {
      type: 'saved',
      model,
      row: { id: randomUUID(), createdAt: now, savedAt: now, room, author: 'ann', body },
    }
  }
  return { models, event }
}
