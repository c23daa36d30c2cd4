/** Rows into the table and nothing else: a thousand per statement, two statements at once, through Prisma's raw API. The limit of draining. */
import { randomUUID } from 'node:crypto'
import { PrismaMariaDb } from '@prisma/adapter-mariadb'
import { PrismaClient } from '../../prisma/mysql/generated/client.ts'
import { contentOf } from '../save.ts'
import { serve } from './peer.ts'

const size = 1_000
const content = contentOf(1)
const sql = `INSERT INTO Content (id, content, createdAt, savedAt) VALUES ${'(?,?,?,?),'.repeat(size - 1)}(?,?,?,?)`
const prisma = new PrismaClient({ adapter: new PrismaMariaDb(process.env.DATABASE_URL!, { useTextProtocol: true }) })
let made = 0

async function insert(): Promise<void> {
  const now = new Date().toISOString().slice(0, -1).replace('T', ' ')
  const args: string[] = []
  // In order, as ids that are made from the time are.
  for (let i = 0; i < size; i++) {
    args.push((made++).toString(16).padStart(8, '0') + randomUUID().slice(8), content, now, now)
  }
  await prisma.$executeRawUnsafe(sql, ...args)
}

serve(async (request, response) => {
  let left = Number(new URL(request.url!, 'http://x').searchParams.get('rows')) / size
  const since = performance.now()
  const lane = async () => {
    while (left-- > 0) await insert()
  }
  await Promise.all([lane(), lane()])
  response.end(JSON.stringify({ ms: performance.now() - since }))
})
