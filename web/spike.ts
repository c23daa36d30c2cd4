/**
 * A spike: thousands of rows of the chosen model through its mutation of many, a few requests at a time, each with ids of its own making, so that what got no answer
 * is sent again and saved once. Invariant: `accepted` counts what the server acknowledged, `saved` what came back as an event.
 */
import { isFinal, uuidv7 } from '../client/index.ts'
import { ask, problemOf, textOf } from './client.ts'
import { narrow, onSaved } from './feed.ts'
import { count, duration } from './format.ts'
import { type Column, chosen, type Model, operationsOf, sentColumns, type Values } from './models.ts'
import { pause } from './pause.ts'
import { look } from './queue.ts'
import { say } from './say.ts'
import { makeStore } from './store.ts'

/** Whether the server lets its console do this: CONSOLE_SPIKE. */
export const isOffered = document.getElementById('console')!.dataset.consoleSpike !== undefined

export const sizes = [1_000, 10_000, 100_000]
const requestsAtOnce = 3

export interface Run {
  /** The name of the model. */
  model: string
  size: number
  /** What was handed to a request so far; when cancelled, all there will be. */
  sent: number
  accepted: number
  saved: number
  startedAt: number
  acceptedMs: number | undefined
  savedMs: number | undefined
  cancelled: boolean
  /** Why it waits, or gave up. */
  problem: string
  failed: boolean
}

export const spike = makeStore({ run: undefined as Run | undefined })

/** Accepted, or on their way, and not seen as an event yet. */
let open = new Set<string>()
let stop = new AbortController()

export const sending = (run: Run | undefined): boolean =>
  run !== undefined && run.acceptedMs === undefined && !run.failed

/** Columns that have to be filled, and the API cannot say with what, such as one that names a row of another model. */
export const unfillable = (model: Model): Column[] => required(model).filter(({ sample }) => sample === undefined)

const required = (model: Model): Column[] =>
  sentColumns(model).filter((column) => !column.nullable && column.default === undefined)

export async function startSpike(size: number): Promise<void> {
  const model = chosen()
  if (!isOffered || sending(spike.get().run) || !model) return
  // The feed counts what is saved.
  narrow(undefined)
  stop = new AbortController()
  open = new Set()
  spike.set({
    run: {
      model: model.name,
      size,
      sent: 0,
      accepted: 0,
      saved: 0,
      startedAt: performance.now(),
      acceptedMs: undefined,
      savedMs: undefined,
      cancelled: false,
      problem: '',
      failed: false,
    },
  })
  say(`Saving ${count(size)}.`)
  look()
  const perRequest = Math.min(1_000, size / 20)
  const name = new Date().toLocaleTimeString('en', { hourCycle: 'h23' })
  await Promise.all(Array.from({ length: requestsAtOnce }, () => send(model, name, perRequest, stop.signal)))
  const run = spike.get().run!
  if (run.failed) return
  patch({ acceptedMs: performance.now() - run.startedAt, problem: '' })
  finish()
}

export function cancelSpike(): void {
  stop.abort()
  patch({ cancelled: true })
  say('Cancelled. What was accepted is still written.')
}

async function send(model: Model, name: string, perRequest: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    const { size, sent, failed } = spike.get().run!
    if (sent >= size || signal.aborted || failed) return
    patch({ sent: sent + perRequest })
    const inputs = Array.from({ length: perRequest }, (_, i) => ({
      id: uuidv7(),
      ...valuesOf(model, `${count(sent + i + 1)} of ${count(size)}, spike of ${name}`),
    }))
    for (const { id } of inputs) open.add(id)
    if (await accept(model, inputs, signal)) {
      patch({ accepted: spike.get().run!.accepted + perRequest, problem: '' })
      look()
    } else for (const { id } of inputs) open.delete(id)
  }
}

/** A valid value for each required column; a text, where there is room for it. */
function valuesOf(model: Model, text: string): Values {
  const hasRoom = ({ type, maxLength = 100, pattern }: Column) =>
    type === 'String' && maxLength >= 100 && pattern === undefined
  return Object.fromEntries(required(model).map((column) => [column.name, hasRoom(column) ? text : column.sample]))
}

/** Until it is accepted; false where it never will be, or the spike was cancelled while the server refused. */
async function accept(model: Model, inputs: Values[], signal: AbortSignal): Promise<boolean> {
  for (let tries = 1; ; tries++) {
    try {
      await ask(operationsOf(model).saveMany, 'write', { inputs })
      return true
    } catch (error) {
      const refusal = problemOf(error)
      const problem = textOf(refusal)
      if (isFinal(refusal)) {
        patch({ problem, failed: true })
        say(`The spike stopped: ${problem}`)
        return false
      }
      patch({ problem })
      await pause(Math.max(refusal.retryAfterMs ?? 0, Math.min(5_000, 250 * 2 ** tries)), signal)
      // It may have been accepted, where there was no answer; those come back as events, and are counted no more.
      if (signal.aborted) return false
    }
  }
}

export function watchSpike(): void {
  onSaved((rows) => {
    if (open.size === 0) return
    let saved = 0
    for (const { id } of rows) if (open.delete(id)) saved += 1
    if (saved === 0) return
    patch({ saved: spike.get().run!.saved + saved })
    finish()
  })
}

function finish(): void {
  const run = spike.get().run!
  if (run.acceptedMs === undefined || run.savedMs !== undefined || open.size > 0) return
  const savedMs = performance.now() - run.startedAt
  patch({ savedMs })
  say(`All ${count(run.saved)} are in the database after ${duration(savedMs)}.`)
}

function patch(part: Partial<Run>): void {
  const { run } = spike.get()
  if (run) spike.set({ run: { ...run, ...part } })
}
