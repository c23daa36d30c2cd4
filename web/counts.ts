/**
 * How many rows are written, where there are several models: one WebSocket with a subscription to each. The feed counts those of a single
 * model. Streams over HTTP would each take one of the six connections that a browser has to a server. Rows that are written while the socket
 * is closed are not counted, and the numbers are shown as not known.
 */
import { access, token } from './access.ts'
import { type Model, models, onChosen, operationsOf } from './models.ts'
import { pause } from './pause.ts'
import { noteWritten, queue } from './queue.ts'

const againMs = 2_000
const flushMs = 50

let wake = new AbortController()
let socket: WebSocket | undefined

export async function watchCounts(): Promise<never> {
  onChosen(() => wake.abort())
  for (;;) {
    const { list } = models.get()
    if (list.length > 1 && access.get().may.read) await count(list)
    wake = new AbortController()
    await pause(againMs, wake.signal)
  }
}

/** Another token: begin again with it. */
export function recount(): void {
  socket?.close()
}

/** Resolves when the socket is closed. */
function count(list: readonly Model[]): Promise<void> {
  queue.patch({ counts: false })
  const written = new Map<number, number>()
  const flush = () => {
    for (const [savedAt, rows] of written) noteWritten(savedAt, rows)
    written.clear()
  }
  return new Promise((resolve) => {
    const opened = new WebSocket(new URL('/graphql', location.href.replace(/^http/, 'ws')), 'graphql-transport-ws')
    const send = (message: object) => opened.send(JSON.stringify(message))
    socket = opened
    opened.onopen = () =>
      send({ type: 'connection_init', payload: token() ? { authorization: `Bearer ${token()}` } : {} })
    opened.onmessage = ({ data }) => {
      const { type, payload } = JSON.parse(data)
      if (type === 'ping') send({ type: 'pong' })
      else if (type === 'connection_ack') {
        queue.patch({ counts: true })
        for (const [i, model] of list.entries())
          send({ id: String(i), type: 'subscribe', payload: { query: operationsOf(model).written } })
      } else if (type === 'next' && payload.data) {
        const savedAt = Date.parse(payload.data.saved.row.savedAt)
        if (written.size === 0) setTimeout(flush, flushMs)
        written.set(savedAt, (written.get(savedAt) ?? 0) + 1)
      }
    }
    opened.onclose = () => {
      queue.patch({ counts: false })
      resolve()
    }
  })
}
