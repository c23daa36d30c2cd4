/**
 * What was given to Save here, and where it stands. Invariant: a text is shown until it is known to be saved or failed, and it is sent
 * again under the id it has until the server has answered: it is saved once, however often that takes. A reload goes on with it.
 */
import { uuidv7 } from 'uuidv7'
import { access } from './access.ts'
import { ask, pause, Refusal } from './api.ts'
import { onSaved } from './feed.ts'
import { duration } from './format.ts'
import { Receipt, Save, SaveMany } from './operations.ts'
import { look } from './queue.ts'
import { say } from './say.ts'
import { makeStore } from './store.ts'

export interface Sent {
  id: string
  content: string
  state: 'sending' | 'retrying' | 'queued' | 'saved' | 'failed'
  startedAt: number
  /** How long until it was acknowledged, and until it was saved. */
  queuedMs?: number
  savedMs?: number
  /** Why it failed, or what it is waiting for. */
  reason?: string
}

const shown = 50
const receiptAfterMs = 1_000
const key = 'spillway.outbox'

/** Newest first. */
export const outbox = makeStore({ sent: [] as Sent[] })

/** Those that are not saved yet. */
const open = new Set<string>()

export function submit(content: string): void {
  const sent: Sent = { id: uuidv7(), content, state: 'sending', startedAt: performance.now() }
  outbox.set({ sent: [sent, ...outbox.get().sent].slice(0, shown) })
  void send(sent.id, content)
}

async function send(id: string, content: string): Promise<void> {
  open.add(id)
  keep()
  for (let tries = 1; ; tries++) {
    try {
      const { save } = await ask(Save, 'write', { id, content })
      const sent = find(id)
      if (sent && open.has(id)) {
        change(id, { state: 'queued', queuedMs: performance.now() - sent.startedAt }, 'reason')
        settle(id, save)
        look()
      }
      return
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      // The answer was lost, and the event came: it is saved.
      if (!open.has(id)) return
      if (error.retryAfterMs === undefined) return fail(id, error.message)
      change(id, { state: 'retrying', reason: error.message })
      if (tries === 1) say(`Not saved yet: ${error.message} It is sent again by itself.`)
      await pause(Math.max(error.retryAfterMs, Math.min(5_000, 250 * 2 ** tries)))
    }
  }
}

interface Standing {
  status: 'QUEUED' | 'SAVED' | 'FAILED'
  failure: { code: string; message: string } | null
}

function settle(id: string, { status, failure }: Standing): void {
  const sent = find(id)
  if (status === 'QUEUED' || !sent || !open.has(id)) return
  if (status === 'FAILED') {
    fail(id, `${failure!.message} It is among the dead letters.`)
    return
  }
  open.delete(id)
  const savedMs = performance.now() - sent.startedAt
  change(id, { state: 'saved', savedMs, queuedMs: sent.queuedMs ?? savedMs }, 'reason')
  keep()
  say(`Saved in ${duration(savedMs)}.`)
}

function fail(id: string, reason: string): void {
  open.delete(id)
  change(id, { state: 'failed', reason })
  keep()
  say(`Failed: ${reason}`)
}

/** Saves nothing, to learn whether the token may save: the answer, or the refusal, says so to access.ts. */
export async function mayWrite(): Promise<void> {
  try {
    await ask(SaveMany, 'write', { inputs: [] })
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
  }
}

/** The feed tells of most; whatever it does not tell of (a failure) is asked for. */
export async function watchOutbox(): Promise<never> {
  onSaved((rows) => {
    if (open.size > 0) for (const { id } of rows) if (open.has(id)) settle(id, { status: 'SAVED', failure: null })
  })
  if (access.get().on) void mayWrite()
  for (const { id, content } of kept()) {
    const sent: Sent = { id, content, state: 'sending', startedAt: performance.now() }
    outbox.set({ sent: [sent, ...outbox.get().sent] })
    void send(id, content)
  }
  for (;;) {
    await pause(receiptAfterMs)
    const waiting = outbox
      .get()
      .sent.filter(({ state, startedAt }) => state === 'queued' && performance.now() - startedAt > receiptAfterMs)
    for (const { id } of waiting.slice(-3)) {
      try {
        const { receipt } = await ask(Receipt, 'read', { id })
        if (receipt) settle(id, receipt)
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
      }
    }
  }
}

const find = (id: string) => outbox.get().sent.find((sent) => sent.id === id)

function change(id: string, part: Partial<Sent>, without?: 'reason'): void {
  const sent = outbox.get().sent.map((sent) => {
    if (sent.id !== id) return sent
    const changed = { ...sent, ...part }
    if (without) delete changed[without]
    return changed
  })
  outbox.set({ sent })
}

function keep(): void {
  const waiting = outbox.get().sent.filter(({ id }) => open.has(id))
  try {
    sessionStorage.setItem(key, JSON.stringify(waiting.map(({ id, content }) => ({ id, content }))))
  } catch {
    // More text than a browser keeps: a reload loses it, nothing else does.
  }
}

function kept(): { id: string; content: string }[] {
  return JSON.parse(sessionStorage.getItem(key) ?? '[]')
}
