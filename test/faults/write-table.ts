/** `node test/faults/write-table.ts FILE`: writes the results that SPILLWAY_FAULT_TABLE=FILE collected into docs/faults.md. */
import { readFileSync } from 'node:fs'
import { resultsTable, writeResults } from './catalogue.ts'

const [file] = process.argv.slice(2)
if (file === undefined) throw new Error('usage: node test/faults/write-table.ts FILE')
const lines = readFileSync(file, 'utf8').trim().split('\n')
writeResults(resultsTable(lines.map((line) => JSON.parse(line))))
