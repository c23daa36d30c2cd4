/** `npm run dead-letters -- list | retry ID… | discard ID…` (or `--all`): the dead letters of the queue that QUEUE_URL names, from a shell. */
import { parseArgs } from 'node:util'
import { readConfig } from '../config.ts'
import { listModels } from '../model/define.ts'
import { decode } from '../model/message.ts'
import { jsonOf, Undecodable } from '../model/model.ts'
import { models } from '../models/index.ts'
import { openQueueAlone } from '../open.ts'
import type { Queue } from '../queue/queue.ts'

const usage = `usage: npm run dead-letters -- list
       npm run dead-letters -- retry ID… | --all
       npm run dead-letters -- discard ID… | --all`

const known = listModels(models)
const silent = { info() {}, warn() {}, error() {} }
const idsPerCall = 500
const page = 100

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { all: { type: 'boolean', default: false } },
  })
  const [command, ...named] = positionals
  const known = command === 'list' || command === 'retry' || command === 'discard'
  if (!known || (command !== 'list' && values.all === named.length > 0)) throw new Error(usage)
  await using stack = new AsyncDisposableStack()
  const queue = await openQueueAlone({ log: silent, stack }, readConfig())
  if (command === 'list') return await list(queue)
  const ids = values.all ? await allIds(queue) : named.map((id) => id.toLowerCase())
  let count = 0
  for (let i = 0; i < ids.length; i += idsPerCall) count += await queue[command](ids.slice(i, i + idsPerCall))
  console.log(`${command === 'retry' ? 'back in the queue' : 'discarded'}: ${count}`)
}

async function list(queue: Queue): Promise<void> {
  for await (const { id, body, failure } of deadLetters(queue)) {
    const message = decode(body, known)
    const text = message instanceof Undecodable ? body : JSON.stringify(jsonOf(message.model, message.values))
    const { code, attempts, failedAt, message: why } = failure
    console.log(
      `${id}  ${failedAt.toISOString()}  ${code}  after ${attempts}  ${JSON.stringify(why)}  ${JSON.stringify(text.slice(0, 60))}`,
    )
  }
  console.log(`dead letters: ${(await queue.status()).deadLetters}`)
}

async function allIds(queue: Queue): Promise<string[]> {
  const ids = new Set<string>()
  for await (const { id } of deadLetters(queue)) ids.add(id)
  return [...ids]
}

async function* deadLetters(queue: Queue) {
  let after: string | undefined
  for (;;) {
    const { deadLetters, more } = await queue.deadLetters(page, after)
    for (const { deadLetter } of deadLetters) yield deadLetter
    after = deadLetters.at(-1)?.handle
    if (!more) return
  }
}

try {
  await main()
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}
