/** A BullMQ worker that makes each job a row, fifty at a time. */
import { Worker } from 'bullmq'
import { queueAddress, queueName, ready } from './peer.ts'
import { prismaClient } from './prisma.ts'

interface Save {
  id: string
  content: string
  at: number
}

const prisma = prismaClient()
await prisma.$connect()

const worker = new Worker<Save>(
  queueName(),
  async ({ data: { id, content, at } }) => {
    await prisma.content.create({ data: { id, content, createdAt: new Date(at), savedAt: new Date() } })
  },
  { connection: queueAddress(), concurrency: 50 },
)
worker.on('error', () => {})
await worker.waitUntilReady()
ready()
