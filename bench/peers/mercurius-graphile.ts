/**
 * To graphile-worker on PostgreSQL. A job is a batch of saves ("batch jobs" in its
 * documentation): those that came while the last jobs were being added.
 */
import { makeWorkerUtils } from 'graphile-worker'
import { serveSaves } from './mercurius.ts'
import { need } from './peer.ts'

interface Save {
  id: string
  content: string
  at: number
}

const lanes = 2
const utils = await makeWorkerUtils({ connectionString: need('POSTGRES_URL') })
let next: { saves: Save[]; added: PromiseWithResolvers<void> } | undefined
let busy = 0

function enqueue(save: Save): Promise<void> {
  if (!next) {
    next = { saves: [], added: Promise.withResolvers() }
    // When all saves of this tick are here.
    setImmediate(add)
  }
  next.saves.push(save)
  return next.added.promise
}

function add(): void {
  if (!next || busy === lanes) return
  const { saves, added } = next
  next = undefined
  busy += 1
  utils
    .addJob('save', saves)
    .then(() => added.resolve(), added.reject)
    .finally(() => {
      busy -= 1
      add()
    })
}

await serveSaves((id, content) => enqueue({ id, content, at: Date.now() }))
