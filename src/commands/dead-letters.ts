/** npm run dead-letters -- list | retry ID… | discard ID… (or --all): the dead letters of whichever queue is set, from a shell. */
import { parseArgs } from 'node:util'
import { readConfig } from '../config.ts'
import { decode } from '../model/message.ts'
import type { Queue } from '../queue/queue.ts'
import { openQueueAlone } from '../start.ts'

const usage = `usage: npm run dead-letters -- list
       npm run dead-letters -- retry ID… | --all
       npm run dead-letters -- discard ID… | --all`

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { all: { type: 'boolean', default: false } },
  })
  const [command, ...named] = positionals
  const known = command === 'list' || command === 'retry' || command === 'discard'
  if (!known || (command !== 'list' && values.all === named.length > 0)) throw new Error(usage)
  const { queue, close } = await openQueueAlone(readConfig())
  try {
    if (command === 'list') await list(queue)
    else {
      const ids = values.all ? await allIds(queue) : named.map((id) => id.toLowerCase())
      let count = 0
      for (let i = 0; i < ids.length; i += 500) count += await queue[command](ids.slice(i, i + 500))
      console.log(`${command === 'retry' ? 'back in the queue' : 'discarded'}: ${count}`)
    }
  } finally {
    await close()
  }
}

async function list(queue: Queue): Promise<void> {
  for await (const { id, body, failure } of deadLetters(queue)) {
    const message = decode(body)
    const text = 'problem' in message ? body : message.content
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
    const { deadLetters, more } = await queue.deadLetters(100, after)
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
