/** docs/faults.md defines every number that the fault suite uses. */
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { faultNumbers, resultsTable } from './catalogue.ts'
import { record } from './table.ts'

/** Numbers as titles and record() have them: a string that is one, or begins with one and a colon; or one in parentheses at its end. */
const used = /['"`](F?[A-G]\d{1,2}|[PS]\d{1,2})(?=['"`:])|\((F?[A-G]\d{1,2}|[PS]\d{1,2})\)['"`]/g

test.each(['faults', 'abuse', 'db'])('docs/faults.md defines every number that a test in test/%s names', (folder) => {
  const directory = new URL(`../${folder}/`, import.meta.url)
  const defined = faultNumbers()
  const undefinedNumbers = readdirSync(directory)
    .filter((name) => name.endsWith('.test.ts') && name !== 'catalogue.test.ts')
    .flatMap((name) =>
      [...readFileSync(new URL(name, directory), 'utf8').matchAll(used)].map(([, a, b]) => `${name}: ${a ?? b}`),
    )
    .filter((use) => !defined.has(use.split(': ')[1]!))
  expect(undefinedNumbers).toEqual([])
})

test('docs/faults.md defines each number once, and every number of its results', () => {
  const page = readFileSync(new URL('../../docs/faults.md', import.meta.url), 'utf8')
  const [catalogue, results] = page.split('<!-- results: begin -->')
  const numbers = [...catalogue!.matchAll(/^\| ([A-Z][A-Z0-9-]*) +\|/gm)].map(([, id]) => id!)
  expect(numbers.filter((id, i) => numbers.indexOf(id) !== i)).toEqual([])
  const resultNumbers = [...results!.matchAll(/^\| ([A-Z][A-Z0-9-]*) +\|/gm)].map(([, id]) => id!)
  expect(resultNumbers.length).toBeGreaterThan(50)
  expect(resultNumbers.filter((id) => !numbers.includes(id))).toEqual([])
})

const verdict = { acknowledged: 1_000, rows: 999, deadLetters: 1, lost: 0, doubled: 0, altered: 0, unannounced: 0 }

test('record refuses a number that docs/faults.md does not define', () => {
  expect(() => record('A99', 'embedded', { fault: 'none', ...verdict })).toThrow('does not define the fault "A99"')
})

test('resultsTable orders by set-up and number, and keeps the last result of a fault', () => {
  const line = (id: string, setUp: 'embedded' | 'redis + mariadb', fault: string) => ({ id, setUp, fault, ...verdict })
  expect(
    resultsTable([
      line('FA6', 'embedded', 'removed'),
      line('B2', 'embedded', 'power'),
      { ...line('B2', 'redis + mariadb', 'power'), acknowledged: 7 },
      line('B2', 'redis + mariadb', 'power'),
      { id: 'C9', setUp: 'embedded', fault: 'full', notRun: 'no disk' },
    ])
      .split('\n')
      .slice(2),
  ).toEqual([
    '| **redis + mariadb** | | | | | | |',
    '| B2 | power | 1,000 | 999 | 1 | 0 | 0 |',
    '| **embedded** | | | | | | |',
    '| B2 | power | 1,000 | 999 | 1 | 0 | 0 |',
    '| C9 | full | not run: no disk |  |  |  |  |',
    '| FA6 | removed | 1,000 | 999 | 1 | 0 | 0 |',
  ])
})
