/**
 * What was given to Save here, of any model, and where it stands. Invariant: a save is shown until it is known to be saved or failed, and it is sent
 * again under the id it has until the server has answered: it is saved once, however often that takes. A reload goes on with it.
 */
import { uuidv7 } from 'uuidv7'
import { access } from './access.ts'
import { ask, pause, Refusal } from './api.ts'
import { onSaved } from './feed.ts'
import { duration } from './format.ts'
import { chosen, lineOf, modelNamed, onChosen, operationsOf, saveVariables, type Values } from './models.ts'
import { Receipt } from './operations.ts'
import { look } from './queue.ts'
import { say } from './say.ts'
import { makeStore } from './store.ts'

/** A save as the session keeps it. */
interface Kept {
  id: string
  /** The name of the model. */
  model: string
  values: Values
}

export interface Sent extends Kept {
  /** The values in one line. */
  text: string
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
const key = 'spillway.saves'

/** Newest first. */
export const outbox = makeStore({ sent: [] as Sent[] })

/** Those that are not saved yet. */
const open = new Set<string>()

export function submit(model: string, values: Values): void {
  begin({ id: uuidv7(), model, values })
}

function begin(kept: Kept): void {
  const model = modelNamed(kept.model)
  const text = model ? lineOf(model, kept.values) : JSON.stringify(kept.values)
  const sent: Sent = { ...kept, text, state: 'sending', startedAt: performance.now() }
  outbox.set({ sent: [sent, ...outbox.get().sent].slice(0, shown) })
  void send(kept)
}

async function send({ id, model: name, values }: Kept): Promise<void> {
  open.add(id)
  keep()
  const model = modelNamed(name)
  if (!model) return fail(id, `This server has no model ${name}.`)
  for (let tries = 1; ; tries++) {
    try {
      const { save } = await ask(operationsOf(model).save, 'write', saveVariables(model, id, values))
      const sent = find(id)
      if (sent && open.has(id)) {
        change(id, { state: 'queued', queuedMs: performance.now() - sent.startedAt }, 'reason')
        if (save) settle(id, save)
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
  const model = chosen()
  if (!model) return
  try {
    await ask(operationsOf(model).saveMany, 'write', { inputs: [] })
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
  }
}

/** The feed tells of most; whatever it does not tell of (a failure, a save of another model) is asked for. */
export async function watchOutbox(): Promise<never> {
  onSaved((rows) => {
    if (open.size > 0) for (const { id } of rows) if (open.has(id)) settle(id, { status: 'SAVED', failure: null })
  })
  let begun = false
  onChosen(() => {
    if (begun) return
    begun = true
    if (access.get().on) void mayWrite()
    for (const one of kept()) begin(one)
  })
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
    sessionStorage.setItem(key, JSON.stringify(waiting.map(({ id, model, values }) => ({ id, model, values }))))
  } catch {
    // More text than a browser keeps: a reload loses it, nothing else does.
  }
}

/** Oldest first. */
function kept(): Kept[] {
  return (JSON.parse(sessionStorage.getItem(key) ?? '[]') as Kept[]).reverse()
}
