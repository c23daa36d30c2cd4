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

let batch: { saves: Save[]; done: Promise<void>; full: () => void } | undefined

function join(save: Save): Promise<void> {
  batch ??= begin()
  const { saves, done, full } = batch
  saves.push(save)
  if (saves.length === size) full()
  return done
}

function begin() {
  const saves: Save[] = []
  const gathered = Promise.withResolvers<void>()
  const timer = setTimeout(gathered.resolve, lingerMs)
  const done = gathered.promise.then(async () => {
    clearTimeout(timer)
    batch = undefined
    const savedAt = new Date()
    await prisma.content.createMany({
      data: saves.map(({ id, content, at }) => ({ id, content, createdAt: new Date(at), savedAt })),
    })
  })
  const full = () => {
    batch = undefined
    gathered.resolve()
  }
  return { saves, done, full }
}

const worker = new Worker<Save>('save', ({ data }) => join(data), { connection: queueAddress(), concurrency: size * 2 })
worker.on('error', () => {})
await worker.waitUntilReady()
ready()
