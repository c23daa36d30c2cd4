/**
 * What the soak saves: numbered messages. The number is in the id, so that an event or a row needs no more than a bit to be remembered, and
 * message n is in room n % rooms.
 */
import { contentLength, contentOf } from '../save.ts'

const numberLength = 12
const variants = Array.from({ length: 200 }, (_, n) => contentOf(n))
const document =
  'mutation ($id: ID, $input: MessageInput!) { saveMessage(id: $id, input: $input) { saveId status duplicate } }'

export const bodyLength = numberLength + 1 + contentLength

/** Of one run: its ids begin with it. */
export function newPrefix(): string {
  const time = Date.now().toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-`
}

export const roomOf = (n: number, rooms: number): string => `room ${n % rooms}`

/** Undefined: the id is of no message of the run. */
export function numberOf(id: string, prefix: string): number | undefined {
  return id.startsWith(prefix) ? Number.parseInt(id.slice(prefix.length), 16) : undefined
}

/** The request of GraphQL that saves a message. */
export function saveOf(n: number, prefix: string, rooms: number): string {
  const number = n.toString(16).padStart(numberLength, '0')
  const input = { room: roomOf(n, rooms), author: 'soak', body: `${number} ${variants[n % variants.length]}` }
  return JSON.stringify({ query: document, variables: { id: prefix + number, input } })
}
