/** The pause and the reports of the workers of the embedded queue: a client of the thread that owns the file. */
import type { RpcClient } from '../sqlite/rpc-client.ts'
import type { Operations, Pause, SeenWorker, WorkerReport } from './operations.ts'
import type { QueueCalls } from './sqlite-calls.ts'

export class SqliteOperations implements Operations {
  readonly #rpc: RpcClient<QueueCalls>

  constructor(rpc: RpcClient<QueueCalls>) {
    this.#rpc = rpc
  }

  pause(by: string | undefined): Promise<void> {
    return this.#rpc.call('pause', [by])
  }

  resume(): Promise<void> {
    return this.#rpc.call('resume', [])
  }

  paused(): Promise<Pause | undefined> {
    return this.#rpc.call('paused', [])
  }

  report(report: WorkerReport): Promise<void> {
    return this.#rpc.call('report', [report])
  }

  workers(): Promise<SeenWorker[]> {
    return this.#rpc.call('workers', [])
  }
}
