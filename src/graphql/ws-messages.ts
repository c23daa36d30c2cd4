/** Messages of graphql-transport-ws that need a look beside that of graphql-ws. */
import { endOfString } from '../http/json-values.ts'

/** Of an operation's id that is sent back, in characters. */
const idLength = 1_000

/** Of the message that ends an operation: its id. */
export function completedId(text: string): string | undefined {
  if (text.length > 1_000 || !text.includes('"complete"')) return undefined
  try {
    const { type, id } = JSON.parse(text)
    return type === 'complete' ? id : undefined
  } catch {
    return undefined
  }
}

/** Of a subscribe message that names its document by its hash alone: with an empty query, which the protocol demands. */
export function withQuery(text: string): string {
  try {
    const message = JSON.parse(text)
    const { type, payload } = message
    if (type !== 'subscribe' || payload?.query != null || !payload?.extensions?.persistedQuery) return text
    return JSON.stringify({ ...message, payload: { ...payload, query: '' } })
  } catch {
    return text
  }
}

/** Whether only a server may send such a message: graphql-ws throws for it. */
export function isServers(data: Buffer): boolean {
  try {
    return ['connection_ack', 'next', 'error'].includes(JSON.parse(String(data)).type)
  } catch {
    return false
  }
}

/** The id of a subscribe message, found without parsing the message; undefined where there is none, or a long one. */
export function subscribeId(text: string): string | undefined {
  const found: { id?: unknown; type?: unknown } = {}
  let depth = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 0x5b || code === 0x7b) depth += 1
    else if (code === 0x5d || code === 0x7d) depth -= 1
    else if (code === 0x22) {
      const name = depth === 1 ? nameAt(text, i) : undefined
      i = endOfString(text, i)
      // Without a colon behind it, it is a value and no name.
      if (name) found[name] = stringBehind(text, i) ?? found[name]
    }
  }
  return found.type === 'subscribe' && typeof found.id === 'string' && found.id ? found.id : undefined
}

function nameAt(text: string, at: number): 'id' | 'type' | undefined {
  if (text.startsWith('"id"', at)) return 'id'
  return text.startsWith('"type"', at) ? 'type' : undefined
}

/** The string that is the value of the name that ends at `end`. */
function stringBehind(text: string, end: number): unknown {
  const colon = /^\s*:\s*(?=")/.exec(text.slice(end + 1, end + 20))
  if (!colon) return undefined
  const start = end + 1 + colon[0].length
  const last = endOfString(text, start)
  if (last - start > idLength) return undefined
  try {
    return JSON.parse(text.slice(start, last + 1))
  } catch {
    return undefined
  }
}
