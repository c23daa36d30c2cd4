/** examples/import-csv, as it stands: 10,000 rows, stopped by Ctrl-C and killed on the way, are one row each; lines that fail are named. */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { boot, type Spillway } from '../harness/boot.ts'
import { launch } from '../harness/child.ts'
import { eventually } from '../harness/eventually.ts'
import { root } from '../harness/imports.ts'
import { inherited } from '../harness/process.ts'
import { temporary } from '../harness/temporary.ts'

let system: Spillway
let folder: string
beforeAll(async () => {
  ;[system, folder] = await Promise.all([boot('embedded'), temporary('spillway-csv-')])
}, 120_000)
afterAll(async () => {
  await system?.stop()
  if (folder) await rm(folder, { recursive: true })
})

const start = (...args: string[]) =>
  launch(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', join(root, 'examples/import-csv/import.js'), ...args],
    {
      env: { ...inherited(), SPILLWAY_URL: system.url },
    },
  )

function rows(): string[] {
  const db = new DatabaseSync(system.env.DATABASE_URL!.slice('file:'.length), { readOnly: true })
  const found = db.prepare('SELECT content FROM Content').all()
  db.close()
  return found.map(({ content }) => content as string)
}

const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`

test('examples/import-csv saves each of 10,000 records once, through Ctrl-C and a kill, and names the lines that fail', async () => {
  const contents = Array.from({ length: 10_000 }, (_, i) => `record ${i}, "quoted"\nwith a second line 🙂`)
  // Two that are the same are two rows.
  contents[7] = contents[6]!
  const records = contents.map(quoted)
  const file = join(folder, 'contents.csv')
  const write = (wrong: readonly string[]) => writeFile(file, ['\ufeffcontent', ...records, ...wrong, ''].join('\r\n'))
  await write(['x'.repeat(70_000), 'one,too many'])
  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    const before = rows().length
    const running = start(file)
    await eventually(() => rows().length > before + 500)
    running.kill(signal)
    const exit = await running.exited
    if (signal === 'SIGKILL') expect(exit).toBe('SIGKILL')
    else expect([exit, running.logs()]).toEqual([1, expect.stringContaining('stopped: run it again to go on')])
    expect(rows().length).toBeLessThan(10_000)
  }
  const last = start(file)
  expect(await last.exited, last.logs()).toBe(1)
  expect(last.logs()).toMatch(
    /^line 20002: BAD_USER_INPUT .*content of Content is 70000 bytes of UTF-8; at most 65536/m,
  )
  expect(last.logs()).toMatch(/^line 20003: it has 2 fields; expected 1/m)
  expect(last.logs()).toMatch(/^10000 saved, 2 failed$/m)
  expect(rows().sort()).toEqual(contents.toSorted())

  await write(['corrected'])
  const again = start(file)
  expect(await again.exited, again.logs()).toBe(0)
  expect(again.logs()).toMatch(/^10001 saved, 0 failed$/m)
  expect(rows().sort()).toEqual([...contents, 'corrected'].sort())
}, 240_000)

test.each([
  ['a model that there is not', ['content'], 'nothing', /there is no model nothing; the server has Content/],
  ['a column that there is not', ['body'], 'content', /Content has no column body/],
])('examples/import-csv says so for %s', async (_, lines, model, message) => {
  const file = join(folder, 'wrong.csv')
  await writeFile(file, [...lines, 'x'].join('\n'))
  const running = start(file, model)
  expect(await running.exited).not.toBe(0)
  expect(running.logs()).toMatch(message)
})

test('examples/import-csv reads quotes, line breaks, empty values and blank lines as RFC 4180 has them', async () => {
  // It has no types.
  const { readCsv } = await import(pathToFileURL(join(root, 'examples/import-csv/csv.js')).href)
  const file = join(folder, 'forms.csv')
  await writeFile(file, '\ufeff"a",b\r\n\r\n"x ""y"", z",\r\n"",\n"one\r\ntwo",3\n\n"last"')
  const records: { fields: string[]; line: number }[] = []
  for await (const record of readCsv(file)) records.push(record)
  expect(records).toEqual([
    { fields: ['a', 'b'], line: 1 },
    { fields: ['x "y", z', ''], line: 3 },
    { fields: ['', ''], line: 4 },
    { fields: ['one\r\ntwo', '3'], line: 5 },
    { fields: ['last'], line: 8 },
  ])
})
