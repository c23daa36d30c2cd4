/** What all peers share, and nobody's speed, start or memory depends on: where they listen, saying so, their settings, and stopping. */
import type { RequestListener } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export const need = (name: string): string => {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set; peers are started by bench/main.ts`)
  return value
}

/** The address of the queue for who connects by themselves. */
export function queueAddress(): { host: string; port: number } {
  const { hostname, port } = new URL(need('QUEUE_URL'))
  return { host: hostname, port: Number(port) }
}

/** Of the API and the worker of one contender: workers of two contenders would take each other's jobs. */
export const queueName = () => need('QUEUE_NAME')

export function serve(listener: RequestListener): void {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1', () => ready(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
}

/** Says that the peer is ready, in the words of Spillway's own log. */
export function ready(url?: string): void {
  console.log(JSON.stringify({ msg: 'ready', url }))
}

// So that a CPU profile is written.
process.on('SIGTERM', () => process.exit(0))
