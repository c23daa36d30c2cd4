/** A flood's connection: what else was read of it costs no call of a listener. */
import type { Socket } from 'node:net'

/** What Node's HTTP parser calls by number: headers, headers that are complete, a piece of a body, a message that is complete. */
const callbacks = [1, 2, 3, 4] as const

/** From now on the parser of this connection finds nothing. It is to be closed; then the parser, which others use after it, is as it was. */
export function mute(socket: Socket): void {
  const { parser } = socket as unknown as { parser?: Record<number, unknown> | null }
  if (!parser || socket.closed) return
  const kept = callbacks.map((number) => parser[number])
  for (const number of callbacks) parser[number] = undefined
  socket.once('close', () => {
    for (const number of callbacks) parser[number] = kept[number - 1]
  })
}
