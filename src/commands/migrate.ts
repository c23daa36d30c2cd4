/** `npm run migrate`: prepares the database, as every start does, and prints what it did. */
import { readConfig } from '../config.ts'
import { listModels } from '../model/define.ts'
import { openStore } from '../open.ts'
import { loadModels } from '../project.ts'

const print = (_fields: object, message: string) => console.log(message)
const log = { info: print, warn: print, error: print }

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => stop.abort(new Error(`ended by ${signal}`)))

try {
  await using stack = new AsyncDisposableStack()
  const { models, prisma } = await loadModels()
  const store = await openStore(
    { log, stack, models: listModels(models), clients: prisma },
    { ...readConfig(), databaseReadUrl: undefined, workerConcurrency: 1 },
  )
  await store.prepare(stop.signal)
} catch (error) {
  // Many an error repeats its cause.
  let said = ''
  for (let e: unknown = error; e instanceof Error; e = e.cause) {
    if (said.includes(e.message.trim())) continue
    console.error(e.message)
    said += `${e.message}\n`
  }
  process.exitCode = 1
}
