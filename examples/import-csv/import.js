/**
 * node import.js FILE.csv [MODEL]: saves each record of a CSV file as a row. The first line names the columns. It may be stopped at any time
 * and run again: a record has the same id each time, so it is one row. It says which lines were refused, and why.
 */
import { createHash } from 'node:crypto'
import { basename } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
// 'spillway-client', where the package is installed.
import { createClient } from '../../client/index.ts'
import { readCsv } from './csv.js'

const [file, name = 'content'] = process.argv.slice(2)
if (!file) {
  console.error('usage: node import.js FILE.csv [MODEL]')
  process.exit(2)
}
/** As the client writes a model. */
const keyOf = (name) => name[0].toLowerCase() + name.slice(1)
const model = keyOf(name)
const { SPILLWAY_URL: url = 'http://127.0.0.1:8080', SPILLWAY_TOKEN: token } = process.env
/** So many are on their way; the file is read on as they are saved. */
const most = 2_000

const client = createClient(url, { token })
const counts = { saved: 0, failed: 0 }
const failures = []
/** How often each record came: two that are the same are two rows. */
const times = new Map()
let isStopped = false
process.once('SIGINT', () => {
  isStopped = true
  client.$close()
})

/** The same for the same record of the same file, wherever it stands: lines may be added and corrected before the next run. */
function idOf(fields) {
  const text = JSON.stringify([basename(file), model, ...fields])
  const count = (times.get(text) ?? 0) + 1
  times.set(text, count)
  const hex = createHash('sha256').update(`${text}${count}`).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

/** A number of another form than the column's is refused by the server. */
function jsonOf(text, { name, type, nullable }) {
  if (text === '' && nullable) return null
  if (!['Int', 'Float', 'Boolean', 'Json'].includes(type)) return text
  try {
    return JSON.parse(text)
  } catch {
    throw new Error(`${name} is ${JSON.stringify(text)}; expected ${type}`)
  }
}

/** A server that is not there is waited for, as the client does with saves. */
async function readModels() {
  for (;;) {
    try {
      return await client.$models()
    } catch (error) {
      if (error.code !== 'UNREACHABLE') throw error
      console.error(`${error.message} Trying again …`)
      await sleep(2_000)
    }
  }
}

async function columnsOf(names) {
  const models = await readModels()
  const found = models.find(({ name }) => keyOf(name) === model)
  if (!found) throw new Error(`there is no model ${model}; the server has ${models.map(({ name }) => name).join(', ')}`)
  const columns = names.map((name) => found.columns.find((column) => column.name === name))
  const unknown = names.filter((_, i) => !columns[i])
  if (unknown.length > 0) throw new Error(`${found.name} has no column ${unknown.join(', ')}`)
  return columns
}

async function save(columns, { fields, line }) {
  try {
    if (fields.length !== columns.length)
      throw new Error(`it has ${fields.length} fields; expected ${columns.length}, as the first line has`)
    const input = Object.fromEntries(columns.map((column, i) => [column.name, jsonOf(fields[i], column)]))
    await client[model].save(input, { id: idOf(fields) }).saved()
    counts.saved += 1
  } catch ({ code = '', message }) {
    if (code === 'CLOSED') return
    counts.failed += 1
    failures.push({ line, text: `line ${line}: ${code ? `${code} ` : ''}${message}` })
  }
}

const shown = setInterval(() => console.log(`${counts.saved} saved …`), 1_000)
const saving = new Set()
let columns
for await (const record of readCsv(file)) {
  if (isStopped) break
  if (!columns) {
    columns = await columnsOf(record.fields)
    continue
  }
  const one = save(columns, record).finally(() => saving.delete(one))
  saving.add(one)
  if (saving.size >= most) await Promise.race(saving)
}
if (!isStopped) await Promise.all(saving)
clearInterval(shown)
client.$close()
for (const { text } of failures.sort((a, b) => a.line - b.line)) console.error(text)
console.log(`${counts.saved} saved, ${counts.failed} failed${isStopped ? '; stopped: run it again to go on' : ''}`)
process.exitCode = isStopped || counts.failed > 0 ? 1 : 0
