/** Follows queued saves to their end: one subscription for all of them, opened again as they grow in number and after a disconnect. */
import { closedError, errorOf, isFinal, SpillwayError } from './error.ts'
import { type Models, receiptsOf } from './models.ts'
import type { Waker } from './pause.ts'
import type { SaveControl } from './save.ts'
import type { Transport } from './transport.ts'

const mostIds = 1_000
/** For so long, saves that are queued while the subscription is open wait for those that it has. */
const patienceMs = 250

interface Deps {
  transport: Transport
  models: Models
  waker: Waker
  closed: AbortSignal
}

interface Receipts {
  receipts: (Record<string, unknown> & {
    saveId: string
    status: 'QUEUED' | 'SAVED' | 'FAILED'
    failure: Pick<SpillwayError, 'code' | 'message'> | null
  })[]
}

export function makeReceipts({ transport, models, waker, closed }: Deps) {
  const waiting = new Map<string, { control: SaveControl; model: string }>()
  let isRunning = false
  let renewal = new AbortController()

  function end(id: string, ...[to, problem, row]: Parameters<SaveControl['move']>): void {
    const { control } = waiting.get(id) ?? {}
    waiting.delete(id)
    control?.move(to, problem, row)
  }

  function take({ receipts }: Receipts): void {
    for (const { saveId, status, failure, ...rows } of receipts) {
      const [row] = Object.values(rows)
      if (failure) end(saveId, 'failed', new SpillwayError(failure.code, failure.message))
      else if (row) end(saveId, 'saved', undefined, row)
      else if (status === 'SAVED')
        end(saveId, 'queued', new SpillwayError('FORBIDDEN', 'Saved; this token may not read it.'))
    }
  }

  /** Until the saves that it is opened with have ended, or there are more. */
  async function watch({ signal }: AbortController): Promise<void> {
    const ids = [...waiting.keys()].slice(0, mostIds)
    const rows = new Set<string>()
    for (const id of ids) rows.add((await models.of(waiting.get(id)!.model)).rowOfReceipt)
    for await (const frames of transport.stream<Receipts>(receiptsOf(rows), { ids }, signal)) {
      for (const { result } of frames) {
        // A row beside an error could not be read now.
        if (result?.errors) throw new SpillwayError('STORE_UNAVAILABLE', result.errors[0]!.message!)
        if (result) take(result.data!)
      }
    }
    for (const id of ids) end(id, 'queued', new SpillwayError('NOT_FOUND', 'Lost or discarded.'))
  }

  async function run(): Promise<void> {
    if (isRunning) return
    isRunning = true
    // Those that are queued together are followed together.
    await null
    for (let tries = 0; waiting.size > 0; ) {
      const before = waiting.size
      renewal = new AbortController()
      try {
        await watch(renewal)
      } catch (thrown) {
        const problem = closed.aborted ? closedError() : errorOf(thrown)
        if (renewal.signal.aborted) continue
        if (problem.code.startsWith('GRAPHQL')) models.forget()
        if (isFinal(problem)) for (const id of waiting.keys()) end(id, 'queued', problem)
        else await waker.backOff(tries, problem.retryAfterMs, closed)
      }
      tries = waiting.size < before ? 0 : tries + 1
    }
    isRunning = false
  }

  return (control: SaveControl, model: string): void => {
    const mine = renewal
    waiting.set(control.save.id, { control, model })
    if (isRunning && waiting.size <= mostIds) setTimeout(() => mine.abort(), patienceMs)
    void run()
  }
}
