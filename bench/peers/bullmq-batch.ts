/** A BullMQ worker whose jobs gather until they are a thousand, or for ten milliseconds, and become rows by one `createMany`. */
import { Worker } from 'bullmq'
import { gather } from './gather.ts'
import { queueAddress, queueName, ready } from './peer.ts'
import { prismaClient } from './prisma.ts'

interface Save {
  id: string
  content: string
  at: number
}

const prisma = prismaClient()
await prisma.$connect()

const insert = gather<Save>((saves) => {
  const savedAt = new Date()
  return prisma.content.createMany({
    data: saves.map(({ id, content, at }) => ({ id, content, createdAt: new Date(at), savedAt })),
  })
})

const worker = new Worker<Save>(queueName(), ({ data }) => insert(data), {
  connection: queueAddress(),
  concurrency: 2_000,
})
worker.on('error', () => {})
await worker.waitUntilReady()
ready()
