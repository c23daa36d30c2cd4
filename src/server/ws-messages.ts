/** Messages of graphql-transport-ws that need a look beside that of graphql-ws. */

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
