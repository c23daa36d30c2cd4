/**
 * A retry or a discard of dead letters: a dry run, the question, the run, and what it did. Invariant: nothing is changed before the
 * operator has seen how many it concerns; and nothing more is discarded than what was seen.
 */
import type { SpillwayError } from '../client/index.ts'
import { ask, problemOf, textOf, unreachable } from './client.ts'
import { plural, time } from './format.ts'
import { Discard, Retry } from './operations.ts'
import { conditionsOf, type Filter } from './place.ts'
import { look } from './queue.ts'
import { makeStore } from './store.ts'

export type Kind = 'retry' | 'discard'
/** Where it was asked for, and is shown. */
export type At = 'list' | 'find'
export type Which = { ids: readonly string[] } | { filter: Filter }

export interface Run {
  kind: Kind
  which: Which
  at: At
  state: 'counting' | 'asking' | 'running' | 'done' | 'failed'
  /** How many the dry run found. */
  count: number
  text: string
}

export const run = makeStore({ current: undefined as Run | undefined })

const watchers: (() => void)[] = []

/** Calls back after something was, or may have been, changed. */
export function onRun(watcher: () => void): void {
  watchers.push(watcher)
}

export const isBusy = (): boolean => {
  const state = run.get().current?.state
  return state === 'counting' || state === 'running'
}

export const dismiss = (): void => run.set({ current: undefined })

/** A dry run; then it waits for `confirm` or `dismiss`. */
export async function propose(kind: Kind, which: Which, at: At): Promise<void> {
  if (isBusy()) return
  await during({ kind, which, at, state: 'counting', count: 0, text: 'Counting…' }, askAbout)
}

async function askAbout(current: Run): Promise<void> {
  const count = await call(current, true)
  if (run.get().current !== current) return
  run.set({
    current:
      count === 0
        ? { ...current, state: 'done', text: none(current) }
        : { ...current, state: 'asking', count, text: question(current, count) },
  })
}

export async function confirm(): Promise<void> {
  const { current } = run.get()
  if (current?.state !== 'asking') return
  await during({ ...current, state: 'running', text: progress(current) }, async (running) => {
    if (current.kind === 'discard') {
      const now = await call(current, true)
      if (now > current.count) {
        const more = `${plural(now - current.count, 'more dead letter')} came meanwhile. `
        run.set({ current: { ...current, count: now, text: more + question(current, now) } })
        return
      }
    }
    const count = await call(current, false)
    run.set({ current: { ...running, state: 'done', text: outcome(current, count) } })
    settled()
  })
}

/** What else was done to a dead letter that was looked up. */
export function done(text: string): void {
  run.set({ current: { kind: 'retry', which: { ids: [] }, at: 'find', state: 'done', count: 1, text } })
  settled()
}

/** Tells that dead letters were changed. */
function settled(): void {
  for (const watcher of watchers) watcher()
  look()
}

async function during(current: Run, act: (current: Run) => Promise<void>): Promise<void> {
  run.set({ current })
  try {
    await act(current)
  } catch (error) {
    const problem = problemOf(error)
    const isRunning = current.state === 'running'
    run.set({ current: { ...current, state: 'failed', text: isRunning ? failure(problem) : textOf(problem) } })
    if (isRunning) settled()
  }
}

async function call({ kind, which }: Run, dryRun: boolean): Promise<number> {
  const given = 'ids' in which ? { ids: [...which.ids] } : { filter: conditionsOf(which.filter) ?? all }
  const change =
    kind === 'retry'
      ? (await ask(Retry, 'admin', { ...given, dryRun })).retryDeadLetters
      : (await ask(Discard, 'admin', { ...given, dryRun })).discardDeadLetters
  return change?.count ?? 0
}

/** A filter needs a condition; all match this one. */
const all = { failedAfter: new Date(0).toISOString() }

const letters = (count: number): string => plural(count, 'dead letter')

const none = ({ kind }: Run): string =>
  kind === 'retry'
    ? 'Nothing can be retried now: there is no such dead letter, or saves with its id wait in the queue.'
    : 'There is no such dead letter.'

const question = ({ kind, which }: Run, count: number): string =>
  kind === 'retry'
    ? `Retry ${letters(count)}${wordsOf(which, count)}? Each goes back into the queue under its id.`
    : `Delete ${letters(count)}${wordsOf(which, count)} permanently? ${count === 1 ? 'It was' : 'They were'} never saved, and cannot be restored.`

const progress = ({ kind, count }: Run): string => `${kind === 'retry' ? 'Retrying' : 'Deleting'} ${letters(count)}…`

const outcome = ({ kind }: Run, count: number): string =>
  kind === 'retry' ? `${letters(count)} ${count === 1 ? 'is' : 'are'} back in the queue.` : `${letters(count)} deleted.`

const failure = (problem: SpillwayError): string =>
  unreachable(problem)
    ? 'The server did not answer. It may still be at it: refresh to see what was done.'
    : textOf(problem)

/** Which ones, after "3 dead letters". */
function wordsOf(which: Which, count: number): string {
  if ('ids' in which) return which.ids.length === 1 ? ` of ${which.ids[0]}` : count === 1 ? '' : ' of those selected'
  const { model, code, reason, after, before } = which.filter
  return [
    model && ` of ${model}`,
    code && ` with the code ${code}`,
    reason && ` whose reason contains “${reason}”`,
    after && ` that failed since ${time(after)}`,
    before && ` that failed before ${time(before)}`,
  ].join('')
}
