/** The API's side of the embedded worker: starts its thread, and hands on its metrics and log lines. */
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { Worker as Thread } from 'node:worker_threads'
import type { Log } from '../src/model/log.ts'
import type { Meter } from '../src/model/meter.ts'
import type { EmbeddedData, EmbeddedMessage } from './embedded.ts'

export interface SpawnDeps {
  meter: Meter
  log: Log
  /** Stops the thread when it is disposed of. */
  stack: AsyncDisposableStack
  signal: AbortSignal
  /** Called when the thread has ended with an error. */
  onFailed: (error: Error) => void
}

/** Resolves when the worker is ready, or `signal` aborts before that; rejects when it cannot start. */
export function spawnEmbedded({ meter, log, stack, signal, onFailed }: SpawnDeps, data: EmbeddedData): Promise<void> {
  const thread = new Thread(fileURLToPath(new URL('./embedded.ts', import.meta.url)), {
    name: 'spillway-worker',
    workerData: data,
    transferList: [data.queuePort, data.eventsPort],
  })
  const exited = once(thread, 'exit')
  exited.catch(() => {})
  stack.defer(async () => {
    if (thread.threadId === -1) return
    thread.postMessage('stop')
    await exited
  })
  const started = Promise.withResolvers<void>()
  signal.addEventListener('abort', () => started.resolve(), { once: true })
  thread.on('error', (error) => {
    started.reject(error)
    onFailed(error)
  })
  thread.on('message', (message: EmbeddedMessage) => {
    const { ready, stage, committed, deadLettered, published, storeWaiting, parked, log: line } = message
    if (ready) started.resolve()
    if (stage) meter.stage(...stage)
    if (committed) meter.committed(...committed)
    if (deadLettered) meter.deadLettered(...deadLettered)
    if (published) meter.published(...published)
    if (storeWaiting) meter.storeWaiting(...storeWaiting)
    if (parked) meter.parked(...parked)
    if (line) log[line.level](line.fields, line.message)
  })
  return started.promise
}
