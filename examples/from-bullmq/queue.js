import { Queue } from 'bullmq'

const { hostname: host, port } = new URL(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379')
export const name = 'contents'
export const connection = { host, port: Number(port || 6379) }
export const openQueue = () => new Queue(name, { connection, defaultJobOptions: { removeOnComplete: true } })
