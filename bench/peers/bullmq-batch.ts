/** A BullMQ worker whose jobs gather until they are a thousand, or for ten milliseconds, and become rows by one `createMany`. */
import { Worker } from 'bullmq'
import { prismaClient, queueAddress, ready } from './peer.ts'

interface Save {
  id: string
  content: string
  at: number
}

const size = 1_000
const lingerMs = 10
const prisma = prismaClient()
await prisma.$connect()

interface Batch {
  saves: Save[]
  done: Promise<void>
  close(): void
}

let batch: Batch | undefined

function join(save: Save): Promise<void> {
  batch ??= begin()
  const { saves, done, close } = batch
  saves.push(save)
  if (saves.length === size) close()
  return done
}

function begin(): Batch {
  const saves: Save[] = []
  const closed = Promise.withResolvers<void>()
  const close = () => {
    clearTimeout(timer)
    batch = undefined
    closed.resolve()
  }
  const timer = setTimeout(close, lingerMs)
  const done = closed.promise.then(async () => {
    const savedAt = new Date()
    await prisma.content.createMany({
      data: saves.map(({ id, content, at }) => ({ id, content, createdAt: new Date(at), savedAt })),
    })
  })
  return { saves, done, close }
}

const worker = new Worker<Save>('save', ({ data }) => join(data), { connection: queueAddress(), concurrency: size * 2 })
worker.on('error', () => {})
await worker.waitUntilReady()
ready()
