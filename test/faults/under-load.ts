/** A fault under load: clients save, two subscribers listen, each at another API process, and every id is judged. */
import { expect } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { expectSound, type Stack } from '../harness/stack.ts'
import { cursorNow, Subscriber } from '../harness/subscriber.ts'
import { record } from './table.ts'

/** A failover and a busy machine. */
export const patience = { timeoutMs: 60_000 }

interface Fault {
  id: string
  fault: string
  /** False where the events log is not the one of the rows before. */
  events?: boolean
}

export async function underLoad(
  stack: Stack,
  { id, fault, events }: Fault,
  inject: () => Promise<void>,
): Promise<void> {
  const before = new Set(stack.acknowledged)
  const after = await cursorNow(stack.url)
  const subscribers = stack.apis.map((api, i) =>
    new Subscriber(i === 0 ? 'SSE' : 'WebSocket', after, () => api.url).start(),
  )
  try {
    stack.write(4)
    await stack.more(30)
    await inject()
    await stack.more(30)
    const verdict = await stack.verdict(fault, { ...patience, ...(events !== undefined && { events }) })
    record(id, 'redis + mariadb', verdict)
    expectSound(verdict)
    const saved = [...stack.acknowledged].filter((id) => !before.has(id))
    for (const { ids, faults } of subscribers) {
      await holds(() => expect(saved.filter((id) => !ids.has(id))).toEqual([]), { progress: () => ids.size })
      expect(faults).toEqual([])
    }
    // Some saves were not acknowledged, because their clients stopped first.
    await holds(() => expect(subscribers[0]!.seen).toEqual(subscribers[1]!.seen))
  } finally {
    await stack.stopWriting()
    await Promise.all(subscribers.map((subscriber) => subscriber.stop()))
  }
}

/** Ends a server while nothing is saved, and saves again at once. Resolves with the milliseconds until the next save, when `isOver` holds. */
export async function untilNextSave(stack: Stack, end: () => unknown, isOver: () => Promise<void>): Promise<number> {
  await end()
  const since = performance.now()
  stack.write(4)
  await holds(isOver, patience)
  await stack.more(1)
  return Math.round(performance.now() - since)
}

/** The code that /readyz has for a part; 'ready' where it has none. */
export async function codeOf(stack: Stack, part: 'queue' | 'events' | 'cache'): Promise<string> {
  const { [part]: state } = await (await fetch(`${stack.url}/readyz`)).json()
  return state.code ?? state.state
}
