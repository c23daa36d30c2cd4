/** The console over several models, in a real browser: form, feed, spike, dead letters, tokens. */
import { randomUUID } from 'node:crypto'
import axe from 'axe-core'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { StoreFault } from '../../src/db/store.ts'
import { launchBrowser } from '../harness/browser.ts'
import { holds } from '../harness/eventually.ts'
import { models } from '../harness/models.ts'
import { tokenOf } from '../harness/tenants.ts'
import { type Consoles, serveAll, serveConsoles } from './consoles.ts'
import { openWindow, startSpike } from './window.ts'

let consoles: Consoles
let browser: Browser
beforeAll(async () => {
  ;[consoles, browser] = await Promise.all([serveConsoles(), launchBrowser()])
})
afterAll(async () => {
  await browser?.close()
  await consoles?.close()
})

const choose = async ({ page }: { page: Page }, model: string) => {
  await page.getByLabel('Model', { exact: true }).selectOption(model)
  await page.locator('.connection.live').waitFor()
}
const rowsOf = async (model: string) =>
  (await consoles.served.store.page(models.get(model)!, { take: 100, skip: 0, where: {} }))!

test('the console saves a row of the chosen model from a form of its columns, and shows it in the feed', async () => {
  const window = await openWindow(browser, consoles.open.url)
  const { page } = window
  await choose(window, 'Comment')
  await page.getByText('From the token: author').waitFor()
  expect(await page.locator('form.save label').allInnerTexts()).toEqual([
    expect.stringMatching(/^postId\s+text, at most 36 characters$/),
    expect.stringMatching(/^body\s+text$/),
    expect.stringMatching(/^rating\s+a whole number, from 1 to 5$/),
    expect.stringMatching(/^mood\s*$/),
  ])
  expect(await page.locator('#choice-rating').inputValue()).toBe('null')
  expect(await page.locator('#column-mood option').allInnerTexts()).toEqual([
    'default: HAPPY',
    'HAPPY',
    'SAD',
    'Mixed_1',
  ])
  await page.getByLabel('postId').fill('post 1')
  await page.getByLabel('postId').press('Enter')
  await page.getByText('body is missing.').waitFor()
  await page.getByRole('button', { name: 'Save an empty text' }).waitFor()
  expect(await page.evaluate(() => document.activeElement?.id)).toBe('column-body')
  await page.getByLabel('body').fill('a comment')
  await page.locator('#column-rating').fill('many')
  await page.getByLabel('body').press('Enter')
  await page.getByText('rating must be a whole number.').waitFor()
  await page.locator('#column-rating').fill('9')
  await page.getByLabel('body').press('Enter')
  const failed = page.locator('.sent li[data-state=failed]')
  await failed.locator('.reason', { hasText: 'rating of Comment must be at least 1 and at most 5, got 9' }).waitFor()
  expect(await page.getByLabel('body').inputValue()).toBe('')
  await choose(window, 'Memo')
  // It comes back to the model, and to what was typed.
  await failed.getByRole('button', { name: 'Edit' }).click()
  await holds(async () => expect(await page.locator('#column-body').inputValue()).toBe('a comment'))
  expect(await page.getByLabel('Model', { exact: true }).inputValue()).toBe('Comment')
  expect(await page.locator('#choice-rating').inputValue()).toBe('value')
  await page.locator('#choice-rating').selectOption('null')
  expect(await page.locator('#column-rating').inputValue()).toBe('')
  await page.getByLabel('mood').selectOption('SAD')
  await page.getByRole('button', { name: 'Save', exact: true }).click()
  await page
    .locator('.sent li[data-state=saved]', { hasText: 'postId: post 1 · body: a comment · mood: SAD' })
    .waitFor()
  const row = page.locator('.rows li', { hasText: 'postId: post 1 · author: dev · body: a comment · mood: SAD' })
  await row.click()
  expect(await page.locator('dialog .values').textContent()).toMatch(/ratingnull/)
  await page.keyboard.press('Escape')
  expect(await rowsOf('Comment')).toMatchObject([{ postId: 'post 1', author: 'dev', body: 'a comment', rating: null }])
  window.check(/status of 400/)
  await window.close()
})

test('the console shows the rows of one model at a time, and what was missed of the others meanwhile', async () => {
  const save = (field: string, input: string, text: string) =>
    fetch(`${consoles.open.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query: `mutation { ${field}(${input}: "${text}", waitMs: 20000) { status } }` }),
    }).then(async (response) => expect(JSON.stringify(await response.json())).toContain('SAVED'))
  const memo = (text: string) =>
    fetch(`${consoles.open.url}/memos`, { method: 'POST', body: JSON.stringify({ topic: 1, text }) }).then(
      ({ status }) => expect(status).toBe(202),
    )
  const window = await openWindow(browser, consoles.open.url)
  const { page } = window
  await page.locator('.rows[aria-label="Saved contents"]').waitFor()
  // No process of this server has a history.
  await page.getByText('In the last five minutes, nothing was counted').waitFor()
  await save('save', 'content', 'the first content')
  await page.locator('.rows li', { hasText: 'the first content' }).waitFor()
  await choose(window, 'Memo')
  await page.locator('.rows[aria-label="Saved memos"]').waitFor()
  await page.getByText('Nothing is saved yet.').waitFor()
  await memo('a memo')
  await page.locator('.rows li', { hasText: 'topic: 1 · text: a memo' }).waitFor()
  await save('save', 'content', 'missed content')
  expect(await page.locator('.rows li').count()).toBe(1)
  await choose(window, 'Content')
  await page.locator('.feed .hint', { hasText: 'caught up 1 missed' }).waitFor()
  await holds(async () =>
    expect(await page.locator('.rows .text').allInnerTexts()).toEqual(['missed content', 'the first content']),
  )
  await choose(window, 'Memo')
  await page.reload()
  await page.locator('.rows li', { hasText: 'topic: 1 · text: a memo' }).waitFor()
  window.check()
  await window.close()
})

test('the console gives its stream back when its tab was hidden for a minute, and catches up when it is shown', async () => {
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.clock.install()
  let streams = 0
  page.on('request', (request) => {
    if (request.postData()?.includes('subscription Saved(')) streams += 1
  })
  const show = (hidden: boolean) =>
    page.evaluate((value) => {
      Object.defineProperty(document, 'hidden', { configurable: true, value })
      document.dispatchEvent(new Event('visibilitychange'))
    }, hidden)
  await page.goto(consoles.open.url)
  await page.locator('.connection.live').waitFor()
  await show(true)
  await page.clock.fastForward(61_000)
  await page.locator('[data-feed=paused]').waitFor()
  const before = streams
  const text = `while nobody looked ${randomUUID()}`
  const query = `mutation { save(content: "${text}", waitMs: 20000) { status } }`
  const response = await fetch(`${consoles.open.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query }),
  })
  expect(await response.text()).toContain('SAVED')
  expect(streams).toBe(before)
  expect(await page.locator('[data-feed=paused]').count()).toBe(1)
  await show(false)
  await page.locator('.feed .hint', { hasText: 'caught up 1 missed' }).waitFor()
  await page.locator('.rows li', { hasText: text }).waitFor()
  await page.locator('.connection.live').waitFor()
  await context.close()
})

test('the form of a model has a field for each type of column, and each value is saved as it was typed', async () => {
  const window = await openWindow(browser, consoles.open.url, { timezoneId: 'America/New_York' })
  const { page } = window
  await choose(window, 'Every')
  const texts = {
    text: 'ten chars!',
    whole: '-2147483648',
    big: '9007199254740993',
    ratio: '0.1',
    price: '-12345678901234567890.000000000000000001',
    at: '2026-02-01T07:30:00.125',
    data: '{"a": [1, null, "x"]}',
    bytes: 'AP8=',
  }
  for (const [name, text] of Object.entries(texts)) await page.locator(`#column-${name}`).fill(text)
  await page.locator('#column-flag').check()
  await page.locator('#column-mood').selectOption('Mixed_1')
  await page.locator('#column-maybeFlag').selectOption('false')
  await page.locator('#column-maybeAt').fill('1969-12-31T19:00:00.000')
  await page.getByRole('button', { name: 'Save', exact: true }).click()
  await page.locator('.sent li[data-state=saved]').waitFor()
  const [row] = await rowsOf('Every')
  expect(row).toMatchObject({
    text: texts.text,
    whole: -2147483648,
    big: 9007199254740993n,
    ratio: 0.1,
    flag: true,
    at: new Date('2026-02-01T12:30:00.125Z'),
    data: { a: [1, null, 'x'] },
    bytes: new Uint8Array([0, 255]),
    mood: 'Mixed_1',
    maybeFlag: false,
    maybeAt: new Date(0),
    maybeText: null,
    maybeData: null,
    usualText: 'a text',
    seldomWhole: 7,
  })
  expect(String(row!.price)).toBe('-12345678901234567890.000000000000000001')
  window.check()
  await window.close()
})

test('the form saves null, a default and an empty text where they are chosen, and a text of several lines', async () => {
  const window = await openWindow(browser, consoles.open.url)
  const { page } = window
  await choose(window, 'Every')
  const required = { whole: '1', big: '1', ratio: '1', price: '1', at: '2026-02-01T07:30', data: 'null', bytes: '' }
  for (const [name, text] of Object.entries(required)) await page.locator(`#column-${name}`).fill(text)
  await page.locator('#column-mood').selectOption('SAD')
  for (const name of ['Whole', 'Big', 'Ratio', 'Price', 'At', 'Data', 'Bytes', 'Text'])
    await page.locator(`#choice-seldom${name}`).selectOption('null')
  for (const name of ['Flag', 'Mood']) await page.locator(`#column-seldom${name}`).selectOption('null')
  await page.locator('#choice-maybeText').selectOption('empty')
  // Typed and taken back, it is what it was at first.
  await page.locator('#column-usualWhole').fill('8')
  await page.locator('#column-usualWhole').fill('')
  await page.locator('#column-usualText').pressSequentially('two')
  await page.keyboard.press('Shift+Enter')
  await page.keyboard.type('lines')
  expect(await page.locator('#choice-usualText').inputValue()).toBe('value')
  await page.getByRole('button', { name: 'Save', exact: true }).click()
  await page.getByText('text is missing.').waitFor()
  await page.getByText('bytes is missing.').waitFor()
  await page.locator('#column-bytes').fill('AA==')
  await page.getByRole('button', { name: 'Save an empty text' }).click()
  const failed = page.locator('.sent li[data-state=failed]')
  await failed.locator('.reason', { hasText: 'null' }).waitFor()
  await failed.getByRole('button', { name: 'Edit' }).click()
  await holds(async () => expect(await page.locator('#column-data').inputValue()).toBe('null'))
  expect(await page.locator('#choice-maybeText').inputValue()).toBe('empty')
  expect(await page.locator('#choice-seldomAt').inputValue()).toBe('null')
  expect(await page.locator('#choice-usualWhole').inputValue()).toBe('default')
  await page.locator('#column-data').fill('""')
  await page.getByRole('button', { name: 'Save', exact: true }).click()
  await page.locator('.sent li[data-state=saved]').waitFor()
  const row = (await rowsOf('Every')).find(({ usualText }) => usualText === 'two\nlines')
  const nulls = ['Whole', 'Big', 'Ratio', 'Price', 'At', 'Data', 'Bytes', 'Text', 'Flag', 'Mood']
  expect(row).toMatchObject({
    text: '',
    data: '',
    maybeText: '',
    maybeWhole: null,
    usualWhole: 7,
    ...Object.fromEntries(nulls.map((name) => [`seldom${name}`, null])),
  })
  window.check(/status of 400/)
  await window.close()
})

test('the form refuses what would be changed on its way, and gives back to Edit exactly what was typed', async () => {
  const window = await openWindow(browser, consoles.open.url, { timezoneId: 'America/New_York' })
  const { page } = window
  await choose(window, 'Every')
  const save = page.getByRole('button', { name: 'Save', exact: true })
  const wrong = {
    whole: [
      [
        '12345678901234567890',
        'whole would be changed: 12345678901234567890 would be rounded to 12345678901234567000.',
      ],
      ['0x10', 'whole must be a whole number.'],
    ],
    ratio: [
      [
        '0.12345678901234567890',
        'ratio would be changed: 0.12345678901234567890 would be rounded to 0.12345678901234568.',
      ],
      ['1e400', 'ratio has a number that is too large: 1e400.'],
      ['1e-400', 'ratio would be changed: 1e-400 would be rounded to 0.'],
    ],
    at: [['2026-03-08T02:30', 'at is a time that the clocks leave out here.']],
    data: [
      [
        '{"a": [9007199254740993]}',
        '9007199254740993 would be rounded to 9007199254740992; write it as a text, in quotes.',
      ],
      ['[0.1000000000000000055]', '0.1000000000000000055 would be rounded to 0.1; write it as a text'],
      ['[1e999]', 'data has a number that is too large: 1e999'],
      ['{"a": 1, "b": {"a": 1, "a": 2}}', 'data has a key twice in one object'],
      ['{"a": 1,}', 'data must be JSON.'],
    ],
  }
  for (const [name, cases] of Object.entries(wrong))
    for (const [text, problem] of cases) {
      await page.locator(`#column-${name}`).fill(text!)
      await save.click()
      await page.locator(`#column-${name}-problem`, { hasText: problem! }).waitFor()
    }
  // A part of a date is no value; it is not left out for that.
  await page.locator('#column-maybeAt').focus()
  await page.keyboard.type('02012026')
  await save.click()
  await page.locator('#column-maybeAt-problem', { hasText: 'maybeAt must be a time.' }).waitFor()
  await page.locator('#choice-maybeAt').selectOption('null')
  const typed = {
    text: 'more than ten characters',
    whole: ' 1.0',
    big: '9223372036854775807',
    ratio: '1.50e3',
    price: '12.500',
    at: '2026-11-01T01:30',
    data: ' { "b" : "\\u00e9 9007199254740993 \\" , : 0.10",\n"a": [1.0, -0.5e-3, 1E2, {"a": 0}] } ',
    bytes: 'AP8=',
  }
  for (const [name, text] of Object.entries(typed)) await page.locator(`#column-${name}`).fill(text)
  await page.locator('#column-mood').selectOption('SAD')
  await save.click()
  const failed = page.locator('.sent li[data-state=failed]')
  await failed.locator('.reason', { hasText: 'text of Every is 24 characters long' }).waitFor()
  await failed.getByRole('button', { name: 'Edit' }).click()
  await holds(async () => expect(await page.locator('#column-text').inputValue()).toBe(typed.text))
  for (const [name, text] of Object.entries(typed))
    expect(await page.locator(`#column-${name}`).inputValue(), name).toBe(text)
  await page.locator('#column-text').fill('exact')
  await save.click()
  await page.locator('.sent li[data-state=saved]').waitFor()
  const row = (await rowsOf('Every')).find(({ text }) => text === 'exact')!
  expect(row).toMatchObject({
    whole: 1,
    big: 9223372036854775807n,
    ratio: 1_500,
    at: new Date('2026-11-01T05:30:00.000Z'),
    data: { b: 'é 9007199254740993 " , : 0.10', a: [1, -0.0005, 100, { a: 0 }] },
  })
  expect(String(row.price)).toBe('12.5')
  window.check(/status of 400/)
  await window.close()
})

test('the feed is narrowed to values of the columns that its model can be narrowed by, and held while one reads', async () => {
  const window = await openWindow(browser, consoles.open.url)
  const { page } = window
  const comment = (postId: string, body: string) =>
    fetch(`${consoles.open.url}/comments`, { method: 'POST', body: JSON.stringify({ postId, body }) }).then(
      ({ status }) => expect(status).toBe(202),
    )
  const shown = () => page.locator('.rows .text').allInnerTexts()
  await choose(window, 'Comment')
  await comment('narrow', 'first of narrow')
  await comment('wide', 'first of wide')
  await page.locator('.rows li', { hasText: 'first of wide' }).waitFor()
  const by = page.getByLabel('Narrow the feed by')
  expect(await by.locator('option').allInnerTexts()).toEqual([
    'All rows',
    'By postId',
    'By author',
    'By author and postId',
  ])
  await by.selectOption('By postId')
  await page.getByLabel('Only with postId').fill('narrow')
  await page.getByLabel('Only with postId').press('Enter')
  await page.locator('.filter', { hasText: 'Only rows with postId: narrow' }).waitFor()
  await page.locator('.connection.live').waitFor()
  await holds(async () => expect(await shown()).toEqual([expect.stringContaining('first of narrow')]))
  await comment('wide', 'second of wide')
  await comment('narrow', 'second of narrow')
  await page.locator('.rows li', { hasText: 'second of narrow' }).waitFor()
  expect(await shown()).toHaveLength(2)

  await page.getByRole('button', { name: 'Hold the list' }).click()
  await comment('narrow', 'third of narrow')
  await comment('narrow', 'fourth of narrow')
  const on = page.getByRole('button', { name: 'Go on: 2 new' })
  await on.waitFor()
  expect(await shown()).toHaveLength(2)
  await accessible(page)
  await on.click()
  await page.locator('.rows li', { hasText: 'fourth of narrow' }).waitFor()
  expect(await shown()).toHaveLength(4)
  await by.selectOption('All rows')
  await page.locator('.rows li', { hasText: 'second of wide' }).waitFor()
  window.check()
  await window.close()
})

test('a feed of 60 KB rows takes less than 150 MB and scrolls; a row opens whole, and one that is gone says so', async () => {
  const window = await openWindow(browser, consoles.open.url)
  const { page } = window
  await page.locator('.rows[aria-label="Saved contents"]').waitFor()
  const total = 1_500
  const perRequest = 30
  // One character outside of Latin-1 makes the browser take two bytes for each.
  const textOf = (i: number) => `long row ${i} … ${'x'.repeat(60_000)}`
  for (let from = 0; from < total; from += perRequest) {
    const inputs = Array.from({ length: perRequest }, (_, i) => ({ content: textOf(from + i) }))
    const query = 'mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { status } }'
    const response = await fetch(`${consoles.open.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables: { inputs } }),
    })
    expect(await response.text()).not.toContain('errors')
  }
  await page.locator('.rows li', { hasText: `long row ${total - 1} ` }).waitFor()
  const rows = async () => Number(await page.locator('.rows li').first().getAttribute('aria-setsize'))
  await holds(async () => expect(await rows()).toBeGreaterThanOrEqual(total), { timeoutMs: 30_000 })
  const session = await page.context().newCDPSession(page)
  await session.send('Performance.enable')
  await session.send('HeapProfiler.collectGarbage')
  const { metrics } = await session.send('Performance.getMetrics')
  const heap = metrics.find(({ name }) => name === 'JSHeapUsedSize')!.value
  console.log(`the console's heap with ${await rows()} rows of 60 KB: ${Math.round(heap / 1e6)} MB`)
  expect(heap).toBeLessThan(150e6)
  const frames = await page.locator('.rows').evaluate(async (box) => {
    let longest = 0
    for (let i = 0, before = performance.now(); i < 30; i++) {
      box.scrollTop = i * 3_000
      await new Promise(requestAnimationFrame)
      const now = performance.now()
      longest = Math.max(longest, now - before)
      before = now
    }
    box.scrollTop = 0
    return longest
  })
  expect(frames).toBeLessThan(500)
  await page.locator('.rows li', { hasText: `long row ${total - 1} ` }).click()
  await holds(async () => expect(await page.locator('dialog .whole').textContent()).toBe(textOf(total - 1)))
  await page.keyboard.press('Escape')
  await page.locator('dialog').waitFor({ state: 'detached' })
  consoles.served.store.clear(models.get('Content')!)
  await page.locator('.rows li', { hasText: `long row ${total - 2} ` }).click()
  await page.locator('dialog', { hasText: 'The row is gone: the database no longer has it.' }).waitFor()
  await accessible(page)
  window.check()
  await window.close()
}, 180_000)

test('a save that failed is shown as saved once its dead letter was retried', async () => {
  const window = await openWindow(browser, consoles.open.url)
  const { page } = window
  const { store } = consoles.served
  const { insert } = store
  store.insert = async (model, rows) => {
    if (rows.some(({ content }) => content === 'to be retried')) throw new StoreFault('rejected', 'a rule refuses it')
    await insert.call(store, model, rows)
  }
  await page.fill('#column-content', 'to be retried')
  await page.press('#column-content', 'Enter')
  // A row is at fault only where the table takes others.
  await page.fill('#column-content', 'another')
  await page.press('#column-content', 'Enter')
  const sent = page.locator('.sent li', { hasText: 'to be retried' })
  await sent.locator('.reason', { hasText: 'It is among the dead letters.' }).waitFor()
  store.insert = insert
  const query = 'mutation { retryDeadLetters(filter: { failedAfter: "1970-01-01T00:00:00.000Z" }) { count } }'
  await fetch(`${consoles.open.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query }),
  })
  await sent.locator('.state', { hasText: /^saved/ }).waitFor()
  expect(await sent.locator('.reason').count()).toBe(0)
  window.check()
  await window.close()
})

test('keys go to the sections and show what they do, at 200 % zoom, too, and not while one types', async () => {
  const window = await openWindow(browser, consoles.open.url, {
    viewport: { width: 640, height: 450 },
    deviceScaleFactor: 2,
    reducedMotion: 'reduce',
  })
  const { page } = window
  const focused = () => page.evaluate(() => document.activeElement?.id || document.activeElement?.className)
  await page.fill('#column-content', '')
  await page.focus('#column-content')
  await page.keyboard.type('g?/f')
  expect(await page.inputValue('#column-content')).toBe('g?/f')
  expect(await page.locator('dialog').count()).toBe(0)
  await page.fill('#column-content', '')
  await page.evaluate(() => (document.activeElement as HTMLElement).blur())
  await page.keyboard.type('gf')
  expect(await focused()).toBe('rows')
  await page.keyboard.type('gd')
  expect(await focused()).toBe('letters')
  await page.keyboard.type('gs')
  expect(await focused()).toBe('status')
  await page.keyboard.type('gv')
  expect(await focused()).toBe('column-content')
  await page.evaluate(() => (document.activeElement as HTMLElement).blur())
  await page.keyboard.press('?')
  await page.locator('dialog', { hasText: 'go to the live feed' }).waitFor()
  await accessible(page)
  await page.keyboard.press('Escape')
  await page.locator('dialog').waitFor({ state: 'detached' })
  await page.locator('.spike summary').click()
  await page.getByRole('button', { name: 'Spike of 1,000 rows', exact: true }).click()
  await accessible(page)
  await page.keyboard.press('Escape')
  expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBe(0)
  expect(await page.evaluate(() => document.getAnimations().length)).toBe(0)
  window.check()
  await window.close()
})

test('a spike saves rows of the chosen model', async () => {
  const window = await openWindow(browser, consoles.open.url)
  const { page } = window
  await choose(window, 'Every')
  expect(await startSpike(page, '1,000')).toContain('Write 1,000 rows of Every into the database?')
  await page.locator('[data-spike=done]', { hasText: '1,000 accepted in' }).waitFor({ timeout: 30_000 })
  await choose(window, 'Memo')
  await page.getByText('Watch the queue rise and drain.').waitFor()
  window.check()
  await window.close()
})

test('the console shows dead letters of all models, or of one, and retries those that it shows', async () => {
  const letters = { Content: { content: 'in the way' }, Memo: { tenantId: 'a', topic: 2, text: 'in the way' } }
  for (const [name, values] of Object.entries(letters)) {
    const model = models.get(name)!
    const id = randomUUID()
    await consoles.served.store.insert(model, [{ id, createdAt: new Date(), savedAt: new Date(), ...values }])
    const { columns, names } = model
    const own = Object.fromEntries(columns.map((column) => [column.name, values[column.name as keyof typeof values]]))
    const { tenantId: _, ...input } = { ...own, [columns.at(-1)!.name]: `a letter of ${name}` }
    await fetch(consoles.open.url + names.savePath, { method: 'POST', body: JSON.stringify({ ...input, id }) })
  }
  const window = await openWindow(browser, consoles.open.url)
  const { page } = window
  const shown = () => page.locator('.letters .head').allInnerTexts()
  const matching = (total: number) => page.locator(`[data-total="${total}"]`).waitFor()
  await matching(2)
  await holds(async () => expect(await shown()).toHaveLength(2))
  const filter = page.getByLabel('Dead letters of the model')
  await filter.selectOption('Memo')
  await matching(1)
  await holds(async () => expect(await shown()).toEqual([expect.stringContaining('Memo')]))
  await filter.selectOption('Comment')
  await page.getByText('None that match.').waitFor()
  await filter.selectOption('Memo')
  await matching(1)
  consoles.served.store.clear(models.get('Memo')!)
  await page.getByRole('button', { name: 'Retry all that match…' }).click()
  await page.getByText('Retry 1 dead letter of Memo?').waitFor()
  await page.locator('.run .primary').click()
  await page.getByText('None that match.').waitFor({ timeout: 30_000 })
  await filter.selectOption('All models')
  await holds(async () => expect(await shown()).toEqual([expect.stringContaining('Content')]))
  window.check()
  await window.close()
})

test('the console shows and edits the input of a dead letter digit for digit, and shows what a look-up could not read', async () => {
  const every = models.get('Every')!
  const { models: list } = await (await fetch(`${consoles.open.url}/models.json`)).json()
  const { columns } = list.find(({ name }: { name: string }) => name === 'Every')
  const given: Record<string, unknown> = Object.fromEntries(
    columns.map(({ name, sample }: { name: string; sample: unknown }) => [name, sample]),
  )
  const input = { ...given, big: '9007199254740993', price: '0.123456789012345678', data: { n: 0.1 } }
  const id = randomUUID()
  const query =
    'mutation ($id: ID!, $input: EveryInput!) { saveEvery(id: $id, input: $input, waitMs: 20000) { status failure { message } } }'
  const save = async () =>
    JSON.stringify(
      await (
        await fetch(`${consoles.open.url}/graphql`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ query, variables: { id, input } }),
        })
      ).json(),
    )
  const row = { ...(await rowsOf('Every'))[0], id, createdAt: new Date(), savedAt: new Date() }
  await consoles.served.store.insert(every, [row])
  expect(await save()).toContain('FAILED')
  const window = await openWindow(browser, `${consoles.open.url}/#find=${id}`)
  const { page } = window
  const shown = page.locator('.letter pre')
  const text = (await shown.textContent())!
  for (const exact of ['"big": "9007199254740993"', '"price": "0.123456789012345678"', '"n": 0.1'])
    expect(text).toContain(exact)
  consoles.served.store.clear(every)
  await page.getByRole('button', { name: 'Edit and retry…' }).click()
  const field = page.getByLabel('Input', { exact: true })
  const send = async (input: string, problem: string) => {
    await field.fill(input)
    await page.getByRole('button', { name: 'Save and retry' }).click()
    await page.locator('#edit-problem', { hasText: problem }).waitFor()
    expect(await field.inputValue()).toBe(input)
  }
  await send(
    text.replace('0.1\n', '12345678901234567890\n'),
    '12345678901234567890 would be rounded to 12345678901234567000',
  )
  await send(text.replace('"0.123456789012345678"', '0.123456789012345678'), 'would be rounded')
  await send(text.replace('"9007199254740993"', '"many"'), 'big')
  await field.fill(text.replace('0.1\n', '"12345678901234567890"\n'))
  await page.getByRole('button', { name: 'Save and retry' }).click()
  // The receipt was SAVED before, by the row that is gone.
  await holds(async () =>
    expect((await rowsOf('Every')).find((row) => row.id === id)).toMatchObject({
      data: { n: '12345678901234567890' },
    }),
  )
  await page.locator('dialog [data-status=SAVED]').waitFor()

  // The rows cannot be read, and the rest is.
  await page.route('**/graphql', async (route) =>
    route.request().postData()!.includes('FindRow') ? await route.abort('connectionrefused') : await route.fallback(),
  )
  await page.locator('dialog').getByRole('button', { name: 'Refresh' }).click()
  await page.locator('dialog').getByRole('alert').getByText('The server cannot be reached.').waitFor()
  await page.locator('dialog [data-status=SAVED]').waitFor()
  window.check(/status of 400|net::ERR_/)
  await window.close()
})

test('the console asks for a token before it shows a model, and what the token may do with it', async () => {
  const context = await browser.newContext()
  const page = await context.newPage()
  const unknown = randomUUID()
  await page.goto(`${consoles.locked.url}/#find=${unknown}`)
  const use = async (claims: Record<string, string>) => {
    await page.getByLabel('Token').fill(await tokenOf(claims))
    await page.getByRole('button', { name: 'Use' }).click()
  }
  await page.getByText('This server asks for a token.').waitFor()
  expect(await page.getByLabel('Model', { exact: true }).count()).toBe(0)
  await use({ scope: '' })
  await holds(async () => expect(await page.locator('#token-state').textContent()).toContain('may not read rows'))
  expect(await page.getByLabel('Model', { exact: true }).count()).toBe(0)
  await use({ scope: 'read write', sub: 'ann', tenant: 'a' })
  await page.getByLabel('Model', { exact: true }).selectOption('Memo')
  await page.getByLabel('topic').fill('3')
  await page.getByLabel('text').fill('of ann')
  await page.getByLabel('text').press('Enter')
  await page.locator('.rows li', { hasText: 'tenantId: a · topic: 3 · text: of ann' }).waitFor()
  // The link that the window was opened with is followed as soon as a token allows it.
  expect(await page.locator('dialog').count()).toBe(0)
  await use({ scope: 'read write admin', sub: 'ann', tenant: 'a' })
  await page.locator('dialog', { hasText: unknown }).getByText('This id is not known here.').waitFor()
  await context.close()
})

test('the console shows a refusal of one model where it arises, and goes on with the others', async () => {
  const bare = await serveAll(consoles.served)
  const window = await openWindow(browser, bare.url)
  await choose(window, 'Comment')
  await window.page.getByLabel('postId').fill('p')
  await window.page.getByLabel('body').fill('of nobody')
  await window.page.getByLabel('body').press('Enter')
  const failed = window.page.locator('.sent li[data-state=failed]')
  await failed.locator('.reason', { hasText: 'author of Comment is set from the claim "sub"' }).waitFor()
  await holds(async () => expect(await window.page.locator('.panel h2').count()).toBe(5))
  expect(await window.page.getByLabel('Token').count()).toBe(0)
  window.check(/status of 401/)
  await window.close()
  await bare.close()

  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(consoles.locked.url)
  await page.getByLabel('Token').fill(await tokenOf({ scope: 'read write' }))
  await page.getByRole('button', { name: 'Use' }).click()
  const model = page.getByLabel('Model', { exact: true })
  await model.selectOption('Memo')
  await page.locator('.feed .bad', { hasText: 'visible only to tokens with the claim "tenant"' }).waitFor()
  await page.locator('[data-feed=refused]').waitFor({ state: 'attached' })
  await page.getByLabel('topic').fill('1')
  await page.getByLabel('text').fill('of no tenant')
  await page.getByLabel('text').press('Enter')
  await page.locator('.sent .reason', { hasText: 'tenantId of Memo is set from the claim "tenant"' }).waitFor()
  await model.selectOption('Content')
  await page.locator('.connection.live').waitFor()
  await holds(async () => expect(await page.locator('.feed .bad').count()).toBe(0))
  await context.close()
})

test('the console of a server with an allow-list of documents says so, or works where its documents are listed', async () => {
  const documents = new Set<string>()
  const listen = await browser.newContext()
  const heard = await listen.newPage()
  heard.on('request', (request) => {
    if (request.url().endsWith('/graphql') && request.method() === 'POST') documents.add(request.postDataJSON().query)
  })
  await heard.goto(consoles.open.url)
  await heard.locator('.connection.live').waitFor()
  await choose({ page: heard }, 'Memo')
  await heard.getByLabel('topic').fill('1')
  await heard.getByLabel('text').fill('heard')
  await heard.getByLabel('text').press('Enter')
  await heard.locator('.rows li', { hasText: 'text: heard' }).waitFor()
  await listen.close()

  const auth = { devClaims: { sub: 'dev', tenant: 'a' } }
  const strict = await serveAll(consoles.served, { auth, operations: new Set() })
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(strict.url)
  await page.locator('.feed .bad', { hasText: 'PERSISTED_OPERATIONS' }).waitFor()
  await page.locator('[data-condition=trouble]', { hasText: 'PERSISTED_OPERATIONS' }).waitFor()
  expect(await page.getByLabel('Token').count()).toBe(0)
  await context.close()
  await strict.close()

  const listed = await serveAll(consoles.served, { auth, operations: documents })
  const window = await openWindow(browser, listed.url)
  await choose(window, 'Memo')
  await window.page.locator('.rows li', { hasText: 'text: heard' }).waitFor()
  window.check()
  await window.close()
  await listed.close()
})

test('after a reload, the console sends a save to the model that it was typed for, under the same id', async () => {
  const window = await openWindow(browser, consoles.open.url)
  const { page } = window
  await choose(window, 'Comment')
  const ids: string[] = []
  let isReloaded = false
  await page.route('**/graphql', async (route) => {
    const { query, variables } = route.request().postDataJSON()
    if (!query.startsWith('mutation Save(')) return await route.fallback()
    ids.push(...variables.inputs.map(({ id }: { id: string }) => id))
    await (isReloaded ? route.fallback() : route.abort('connectionrefused'))
  })
  await page.getByLabel('postId').fill('p')
  await page.getByLabel('body').fill('typed before the reload')
  await page.getByLabel('body').press('Enter')
  await page.locator('.sent li[data-state=retrying]').waitFor()
  await choose(window, 'Content')
  page.once('domcontentloaded', () => {
    isReloaded = true
  })
  await page.reload()
  await page.locator('.sent li[data-state=saved]', { hasText: 'typed before the reload' }).waitFor()
  expect(await page.getByLabel('Model', { exact: true }).inputValue()).toBe('Content')
  const rows = (await rowsOf('Comment')).filter(({ body }) => body === 'typed before the reload')
  expect(rows.map(({ id }) => id)).toEqual([...new Set(ids)])
  window.check(/net::ERR_/)
  await window.close()
})

test.each([
  ['light', { colorScheme: 'light' as const }],
  ['dark', { colorScheme: 'dark' as const }],
  ['a phone', { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true }],
])('the form of every type is accessible and fits the viewport: %s', async (_, options) => {
  const window = await openWindow(browser, consoles.open.url, options)
  const { page } = window
  for (const model of ['Comment', 'Every']) {
    await choose(window, model)
    await page.getByRole('button', { name: 'Save', exact: true }).click()
    await page.getByText('is missing.').first().waitFor()
    const beyond = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    )
    expect(beyond).toBe(0)
    await page.evaluate(axe.source)
    const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run())
    const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
    expect(serious.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([])
  }
  window.check()
  await window.close()
})

async function accessible(page: Page): Promise<void> {
  await page.evaluate(axe.source)
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run())
  expect(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([])
}
