/**
 * An honest client beside an attack: it asks for /livez and saves, again and again, and notes how long each answer took. It runs in a
 * thread of its own (this same file), so that the attacker's work does not count.
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

export interface Probed {
  /** How long the answers took, in ms, the shortest first. */
  tookMs: number[]
  /** What was not answered as it should be. */
  failed: string[]
  p95: number
}

export interface Probe {
  stop(): Promise<Probed>
}

const everyMs = 20

export function probe(url: string): Probe {
  const thread = new Worker(fileURLToPath(import.meta.url), { workerData: { probed: url } })
  const told = once(thread, 'message') as Promise<[Probed]>
  told.catch(() => {})
  return {
    async stop() {
      thread.postMessage('stop')
      const [probed] = await told
      return probed
    },
  }
}

async function run(url: string): Promise<Probed> {
  const tookMs: number[] = []
  const failed: string[] = []
  let stopped = false
  parentPort!.once('message', () => {
    stopped = true
  })
  const ask = async (expected: number, path: string, init?: RequestInit) => {
    const before = performance.now()
    try {
      const response = await fetch(`${url}${path}`, init)
      const text = await response.text()
      if (response.status !== expected) failed.push(`${path} ${response.status} ${text.slice(0, 200)}`)
    } catch (error) {
      failed.push(`${path} ${error}`)
    }
    tookMs.push(performance.now() - before)
  }
  do {
    await ask(200, '/livez')
    await ask(202, '/save', { method: 'POST', body: JSON.stringify({ content: randomUUID() }) })
    // The rate is the load.
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  } while (!stopped)
  tookMs.sort((a, b) => a - b)
  return { tookMs, failed, p95: tookMs[Math.floor(tookMs.length * 0.95)]! }
}

if (!isMainThread && workerData?.probed) parentPort!.postMessage(await run(workerData.probed))
