/** `npm run migrate`: makes the database ready, as every start does, and says what that took. */
import { readConfig } from '../config.ts'
import { PrismaStore } from '../db/prisma.ts'

const say = (_fields: object, message: string) => console.log(message)

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => stop.abort(new Error(`ended by ${signal}`)))

let store: PrismaStore | undefined
try {
  store = new PrismaStore({ url: readConfig().databaseUrl, concurrency: 1, log: { info: say, warn: say, error: say } })
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
} finally {
  await store?.close()
}
