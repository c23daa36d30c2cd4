/** A BullMQ worker that makes each job a row, fifty at a time. */
import { Worker } from 'bullmq'
import { prismaClient, queueAddress, ready } from './peer.ts'

interface Save {
  id: string
  content: string
  at: number
}

const prisma = prismaClient()
await prisma.$connect()

const worker = new Worker<Save>(
  'save',
  async ({ data: { id, content, at } }) => {
    await prisma.content.create({ data: { id, content, createdAt: new Date(at), savedAt: new Date() } })
  },
  { connection: queueAddress(), concurrency: 50 },
)
worker.on('error', () => {})
await worker.waitUntilReady()
ready()
