/** `npm run dead-letters`: the dead letters of the queue that QUEUE_URL names, from a shell. */
import { parseArgs } from 'node:util'
import * as z from 'zod'
import { type DeadLetterFilter, isEmpty } from '../app/dead-letter-filter.ts'
import { DeadLetters, type DecodedDeadLetter, type Selection } from '../app/dead-letters.ts'
import { readConfig } from '../config.ts'
import { listModels } from '../model/define.ts'
import { parseId } from '../model/input.ts'
import { openQueueAlone } from '../open.ts'
import { loadModels } from '../project.ts'

const usage = `usage: npm run dead-letters -- list [FILTER]
       npm run dead-letters -- retry ID… | FILTER | --all [--dry-run]
       npm run dead-letters -- discard ID… | FILTER | --all [--dry-run]
FILTER is one or more of: --model NAME, --code CODE, --reason TEXT (a part of the reason), --after TIME, --before TIME (of the failure; such as 2026-11-27T12:00:00Z).`

const silent = { info() {}, warn() {}, error() {} }
const page = 100
const shownLength = 60

const options = {
  all: { type: 'boolean', default: false },
  'dry-run': { type: 'boolean', default: false },
  model: { type: 'string' },
  code: { type: 'string' },
  reason: { type: 'string' },
  after: { type: 'string' },
  before: { type: 'string' },
} as const

type Command = { name: 'list'; filter: DeadLetterFilter } | Change
type Change = { name: 'retry' | 'discard'; selection: Selection; dryRun: boolean }

function readArguments() {
  try {
    return parseArgs({ allowPositionals: true, options })
  } catch (error) {
    // Its second sentence is about positional arguments that begin with "-"; there are none here.
    const [problem] = (error as Error).message.split('. ')
    throw new Error(`${problem}\n${usage}`)
  }
}

function readCommand(): Command {
  const { positionals, values } = readArguments()
  const { model, code, reason, all, 'dry-run': dryRun } = values
  const [failedAfter, failedBefore] = [time('after', values.after), time('before', values.before)]
  const filter = { model, code, reason, failedAfter, failedBefore }
  const [name, ...ids] = positionals
  if (name === 'list') {
    if (ids.length > 0 || all || dryRun) throw new Error(usage)
    return { name, filter }
  }
  const ways = [ids.length > 0, all, !isEmpty(filter)].filter(Boolean).length
  if ((name !== 'retry' && name !== 'discard') || ways !== 1) throw new Error(usage)
  return { name, selection: ids.length > 0 ? { ids: ids.map((id) => parseId(id) ?? id) } : { filter }, dryRun }
}

const isoTime = z.union([z.iso.date(), z.iso.datetime({ offset: true })])

function time(name: string, text: string | undefined): Date | undefined {
  if (text === undefined) return undefined
  if (isoTime.safeParse(text).success) return new Date(text)
  throw new Error(
    `--${name} must be a time in ISO 8601 with its zone, such as 2026-11-27T12:00:00Z, got ${JSON.stringify(text)}`,
  )
}

async function main(): Promise<void> {
  const command = readCommand()
  const { models } = await loadModels()
  await using stack = new AsyncDisposableStack()
  const deadLetters = new DeadLetters({
    models: listModels(models),
    queue: await openQueueAlone({ log: silent, stack }, readConfig()),
  })
  if (command.name === 'list') return await list(deadLetters, command.filter)
  const { name, selection, dryRun } = command
  const { count } = await deadLetters[name](selection, { dryRun })
  const done = name === 'retry' ? 'back in the queue' : 'discarded'
  console.log(`${dryRun ? `dry run; would be ${done}` : done}: ${count}`)
}

/** Oldest first, so that the newest is beside the prompt. */
async function list(deadLetters: DeadLetters, filter: DeadLetterFilter): Promise<void> {
  let count = 0
  for (let newerThan: string | undefined; ; ) {
    const { deadLetters: some, more } = await deadLetters.page(page, { newerThan }, filter)
    for (const deadLetter of some) console.log(line(deadLetter))
    count += some.length
    newerThan = some.at(-1)?.handle
    if (!more) break
  }
  console.log(`dead letters: ${count}`)
}

function line({ id, body, failure, save }: DecodedDeadLetter): string {
  const { code, attempts, failedAt, message } = failure
  const what = save ? JSON.stringify(save.input).slice(0, shownLength) : JSON.stringify(body.slice(0, shownLength))
  const columns = [
    id,
    failedAt.toISOString(),
    code,
    `after ${attempts}`,
    JSON.stringify(message),
    save?.model ?? '-',
    what,
  ]
  return columns.join('  ')
}

try {
  await main()
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}
