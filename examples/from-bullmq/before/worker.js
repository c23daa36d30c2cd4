/** Makes each job a row, fifty at a time. Prisma's client is the one of this repository, whose table is Spillway's built-in `Content`. */
import { PrismaMariaDb } from '@prisma/adapter-mariadb'
import { Worker } from 'bullmq'
import { PrismaClient } from '../../../prisma/mysql/generated/client.ts'
import { connection, name } from '../queue.js'

const prisma = new PrismaClient({ adapter: new PrismaMariaDb(process.env.DATABASE_URL) })

const worker = new Worker(
  name,
  async ({ data: { id, content }, timestamp }) => {
    await prisma.content.create({ data: { id, content, createdAt: new Date(timestamp), savedAt: new Date() } })
  },
  { connection, concurrency: 50 },
)
worker.on('error', (error) => console.error(error.message))
process.once('SIGTERM', async () => {
  await worker.close()
  await prisma.$disconnect()
})
await worker.waitUntilReady()
console.log('ready')
