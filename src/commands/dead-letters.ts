/** `npm run dead-letters`: the dead letters of the queue that QUEUE_URL names, from a shell. */
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import * as z from 'zod'
import { type DeadLetterFilter, isEmpty } from '../app/dead-letter-filter.ts'
import { DeadLetters, type DecodedDeadLetter, type Selection } from '../app/dead-letters.ts'
import { readConfig } from '../config.ts'
import { limitColumns, listModels } from '../model/define.ts'
import { parseId } from '../model/input.ts'
import { openQueueAlone } from '../open.ts'
import { loadModels } from '../project.ts'

const usage = `usage: npm run dead-letters -- list [FILTER]
       npm run dead-letters -- retry ID… | FILTER | --all [--dry-run]
       npm run dead-letters -- edit ID FILE (a JSON object with all columns by name)
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

type Command = { name: 'list'; filter: DeadLetterFilter } | { name: 'edit'; id: string; file: string } | Change
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
  if (name === 'edit') {
    const [id, file, ...rest] = ids
    if (!id || !file || rest.length > 0 || all || dryRun || !isEmpty(filter)) throw new Error(usage)
    return { name, id: parseId(id) ?? id, file }
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
  const config = readConfig()
  const deadLetters = new DeadLetters({
    models: limitColumns(listModels(models), config.contentMaxBytes),
    queue: await openQueueAlone({ log: silent, stack }, config),
  })
  if (command.name === 'list') return await list(deadLetters, command.filter)
  if (command.name === 'edit') return await edit(deadLetters, command)
  const { name, selection, dryRun } = command
  const { count } = await deadLetters[name](selection, { dryRun })
  const done = name === 'retry' ? 'back in the queue' : 'discarded'
  console.log(`${dryRun ? `dry run; would be ${done}` : done}: ${count}`)
}

async function edit(deadLetters: DeadLetters, { id, file }: { id: string; file: string }): Promise<void> {
  const operator = { subject: undefined, scopes: new Set(['admin']), expiresAt: undefined, claims: {} }
  await deadLetters.edit({ id, input: await readInput(file) }, operator)
  console.log(`back in the queue: ${id}`)
}

async function readInput(file: string): Promise<unknown> {
  const text = await readFile(file, 'utf8')
  try {
    return JSON.parse(text)
  } catch {
    throw new Error(`${file} is not JSON; it must have an object with all columns by name`)
  }
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
