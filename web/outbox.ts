/**
 * What was given to Save here, of any model, and where it stands. Invariant: a save is shown until it is known to be saved or failed. The client
 * sends it until the server has answered; a reload goes on with it under its id.
 */
import { type Save, uuidv7 } from '../client/index.ts'
import { access } from './access.ts'
import { ask, client, clientOf, noting, problemOf, textOf } from './client.ts'
import { onSaved } from './feed.ts'
import { type Typed, typedOf } from './form.ts'
import { duration } from './format.ts'
import { chosen, excerptOf, lineOf, type Model, modelNamed, onChosen, operationsOf, type Values } from './models.ts'
import { Receipt } from './operations.ts'
import { pause } from './pause.ts'
import { look, queue } from './queue.ts'
import { say } from './say.ts'
import { makeStore } from './store.ts'

/** A save as the session keeps it. */
interface Kept {
  id: string
  /** The name of the model. */
  model: string
  values: Values
  /** What was typed for them, where they do not tell: JSON with its spaces, numbers with their zeros. */
  texts: Typed
}

export interface Sent extends Kept {
  /** The beginning of the values in one line. */
  text: string
  state: 'sending' | 'retrying' | 'queued' | 'saved' | 'failed'
  startedAt: number
  /** How long until it was acknowledged, and until it was saved. */
  queuedMs?: number
  savedMs?: number
  /** It failed, and is among the dead letters, from which it may be retried. */
  isLetter?: boolean
  /** Why it failed, or what it is waiting for. */
  reason?: string
}

const shown = 50
const receiptAfterMs = 1_000
/** Turns of that. */
const lettersEvery = 15
const key = 'spillway.saves'

/** Newest first. */
export const outbox = makeStore({ sent: [] as Sent[] })

/** Those that are not saved yet. */
const open = new Map<string, Save>()

export function submit(model: string, values: Values, typed: Typed): void {
  const texts = Object.fromEntries(Object.entries(typed).filter(([name, text]) => text !== values[name]))
  begin({ id: uuidv7(), model, values, texts })
}

/** What was typed. */
export const typedFor = (model: Model, { values, texts }: Sent): Typed => ({ ...typedOf(model, values), ...texts })

function begin(kept: Kept): void {
  const model = modelNamed(kept.model)
  const text = excerptOf(model ? lineOf(model, kept.values) : JSON.stringify(kept.values), 1_000)
  const sent: Sent = { ...kept, text, state: 'sending', startedAt: performance.now() }
  outbox.set({ sent: [sent, ...outbox.get().sent].slice(0, shown) })
  void send(kept)
}

async function send({ id, model, values }: Kept): Promise<void> {
  const save = clientOf(model).save(values, { id })
  open.set(id, save)
  keep()
  try {
    const { status } = await noting('write', save)
    const sent = open.has(id) && find(id)
    if (sent) change(id, { state: 'queued', queuedMs: performance.now() - sent.startedAt }, 'reason')
    look()
    if (status === 'SAVED') settle(id)
  } catch (error) {
    const problem = problemOf(error)
    // Edited, it is another save.
    client.$outbox.discard(id)
    if (save.getSnapshot().state === 'failed') bury(id, problem)
    else fail(id, textOf(problem))
  }
}

function bury(id: string, { message }: { message: string }): void {
  fail(id, `${message} It is among the dead letters.`, true)
}

/** How many may not have reached the server. */
export const unsent = (): number =>
  outbox.get().sent.filter(({ state }) => state === 'sending' || state === 'retrying').length

function showRetries(): void {
  for (const [id, save] of open) {
    const { state, problem } = save.getSnapshot()
    if (state !== 'retrying') continue
    const reason = textOf(problem!)
    const before = find(id)
    if (before?.reason === reason) continue
    change(id, { state, reason })
    if (before?.state === 'sending') say(`Not saved yet: ${reason} It is sent again by itself.`)
  }
}

function settle(id: string): void {
  const sent = find(id)
  // The event may have come before the answer.
  if (open.delete(id)) client.$outbox.discard(id)
  if (!sent || sent.state === 'saved') return
  const savedMs = performance.now() - sent.startedAt
  // Nothing is edited any more.
  const done = {
    state: 'saved',
    savedMs,
    queuedMs: sent.queuedMs ?? savedMs,
    isLetter: false,
    values: {},
    texts: {},
  } as const
  change(id, done, 'reason')
  keep()
  say(`Saved in ${duration(savedMs)}.`)
}

function fail(id: string, reason: string, isLetter = false): void {
  open.delete(id)
  const { state } = find(id) ?? {}
  if (!state || state === 'saved' || state === 'failed') return
  change(id, { state: 'failed', reason, isLetter })
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
    problemOf(error)
  }
}

/**
 * The feed tells of most; whatever it does not tell of (a failure, a save of another model) is asked for. Not followed: a stream would hold one
 * of the six connections that a browser has to a server for all its tabs together.
 */
export async function watchOutbox(): Promise<never> {
  onSaved((rows) => {
    if (outbox.get().sent.some(({ state }) => state !== 'saved')) for (const { id } of rows) settle(id)
  })
  client.$outbox.subscribe(showRetries)
  let begun = false
  onChosen(() => {
    if (begun) return
    begun = true
    if (access.get().on) void mayWrite()
    for (const one of kept()) begin(one)
  })
  // A dead letter may be retried or discarded: it is asked for when their number changes, and now and then where the token may not know it.
  let letters: number | undefined
  const due = new Set<string>()
  const noteLetters = () => {
    for (const { id, isLetter } of outbox.get().sent) if (isLetter) due.add(id)
  }
  queue.follow(() => {
    const now = queue.get().status?.deadLetters
    if (now !== letters) noteLetters()
    letters = now
  })
  for (let turn = 1; ; turn++) {
    await pause(receiptAfterMs)
    if (turn % lettersEvery === 0) noteLetters()
    const waiting = outbox
      .get()
      .sent.filter(({ state, startedAt }) => state === 'queued' && performance.now() - startedAt > receiptAfterMs)
    const asked = [...waiting.slice(-3).map(({ id }) => id), ...[...due].slice(0, 3)]
    for (const id of asked) {
      due.delete(id)
      try {
        const { receipt } = await ask(Receipt, 'read', { id })
        const isLetter = find(id)?.isLetter
        if (receipt?.status === 'SAVED') settle(id)
        else if (receipt?.failure) bury(id, receipt.failure)
        else if (isLetter && receipt) change(id, { state: 'queued', isLetter: false }, 'reason')
        else if (isLetter)
          change(id, { reason: 'It was discarded from the dead letters, and is not saved.', isLetter: false })
      } catch (error) {
        problemOf(error)
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
    sessionStorage.setItem(
      key,
      JSON.stringify(waiting.map(({ id, model, values, texts }) => ({ id, model, values, texts }))),
    )
  } catch {
    // More text than a browser keeps: a reload loses it, nothing else does.
  }
}

/** Oldest first. */
function kept(): Kept[] {
  return (JSON.parse(sessionStorage.getItem(key) ?? '[]') as Kept[]).reverse()
}
