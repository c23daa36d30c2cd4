/** The console over several models, and what the server tells it of them; the console itself names none. */
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import axe from 'axe-core'
import { parse, validate } from 'graphql'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Column } from '../../src/model/columns.ts'
import type { Model } from '../../src/model/model.ts'
import { models as ours } from '../../src/models/index.ts'
import { welcomeOf } from '../../src/server/graphiql.ts'
import { sampleOf } from '../../src/server/samples.ts'
import { serve } from '../../src/server/server.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { launchBrowser } from '../harness/browser.ts'
import { holds } from '../harness/eventually.ts'
import { type ModelServer, serveModels } from '../harness/model-server.ts'
import { datamodelOf, models } from '../harness/models.ts'
import { quiet } from '../harness/quiet.ts'
import { secret, tokenOf } from '../harness/tenants.ts'
import { numberOf, openWindow } from './window.ts'

interface Served {
  url: string
  close(): Promise<void>
}

/** The whole server over the app of `served`: with the console, and REST. */
function serveAll(
  { app, store }: ModelServer,
  options: { introspection?: boolean; auth?: { secret?: string; devClaims?: Record<string, string> } } = {},
): Promise<Served> {
  return serve(
    app,
    { client: {}, datamodel: datamodelOf() },
    {
      host: '127.0.0.1',
      port: 0,
      graphiql: true,
      introspection: true,
      operations: undefined,
      auth: {},
      requestsPerSecond: undefined,
      streamsPerClient: undefined,
      maxConnections: 100,
      metrics: new Metrics([...models.keys()]),
      store,
      events: { probe: async () => {} },
      prepared: () => true,
      hosts: [],
      origins: [],
      log: quiet(),
      ...options,
    },
  )
}

let served: ModelServer
let open: Served
let locked: Served
let browser: Browser
beforeAll(async () => {
  ;[served, browser] = await Promise.all([serveModels(), launchBrowser()])
  open = await serveAll(served, { introspection: false, auth: { devClaims: { sub: 'dev', tenant: 'a' } } })
  locked = await serveAll(served, { introspection: false, auth: { secret } })
})
afterAll(async () => {
  await browser?.close()
  await open?.close()
  await locked?.close()
  await served?.close()
})

const path = '/console/models.json'
const modelsFor = async (scope?: string) => {
  const headers = scope === undefined ? {} : { authorization: `Bearer ${await tokenOf({ scope })}` }
  return await fetch(locked.url + path, { headers })
}
const choose = async ({ page }: { page: Page }, model: string) => {
  await page.getByLabel('Model', { exact: true }).selectOption(model)
  await page.locator('.connection.live').waitFor()
}
const rowsOf = async (model: string) =>
  (await served.store.page(models.get(model)!, { take: 100, skip: 0, where: {} }))!

test(`GET ${path} needs a token, and one of the scopes, where the server has authentication and no introspection`, async () => {
  const none = await modelsFor()
  expect(none.status).toBe(401)
  expect(await none.text()).not.toContain('Comment')
  const idle = await modelsFor('')
  expect(idle.status).toBe(403)
  expect(await idle.text()).not.toContain('Comment')
  for (const scope of ['read', 'write', 'admin']) {
    const response = await modelsFor(scope)
    expect(response.status, scope).toBe(200)
    expect(response.headers.get('cache-control')).toBe('no-store')
  }
})

test(`GET ${path} has the columns of each model in their form for clients, and nothing of the database or of claims`, async () => {
  const response = await fetch(open.url + path)
  const text = await response.text()
  const { models: list } = JSON.parse(text)
  expect(list.map(({ name }: { name: string }) => name)).toEqual(['Content', 'Comment', 'Memo', 'Every'])
  expect(list[1]).toEqual({
    name: 'Comment',
    names: {
      one: 'comment',
      many: 'comments',
      save: 'saveComment',
      saveMany: 'saveComments',
      saved: 'commentSaved',
      flat: false,
    },
    columns: [
      { name: 'postId', type: 'String', nullable: false, maxLength: 36, sample: 'something' },
      { name: 'author', type: 'String', nullable: false, maxLength: 100, fromToken: true },
      { name: 'body', type: 'String', nullable: false, sample: 'something' },
      { name: 'rating', type: 'Int', nullable: true, min: 1, max: 5, sample: 1 },
      {
        name: 'mood',
        type: 'Enum',
        enumName: 'Mood',
        values: ['HAPPY', 'SAD', 'Mixed_1'],
        nullable: false,
        default: 'HAPPY',
        sample: 'HAPPY',
      },
    ],
  })
  const usual = list[3].columns.filter(({ name }: { name: string }) => name.startsWith('usual'))
  const defaults = [
    'a text',
    7,
    '9007199254740993',
    0.5,
    '12.5',
    true,
    '2026-01-31T12:00:00.000Z',
    { a: [1, null] },
    'AP8=',
    'SAD',
  ]
  expect(usual.map((column: { default: unknown }) => column.default)).toEqual(defaults)
  // Claims, and names in the database.
  expect(text).not.toMatch(/"(sub|tenant|dbName|table|happy)"/)
})

test.each([...models.values()].map((model) => [model.name, model] as const))(
  'the first document of GraphiQL is valid, and its save is accepted: %s',
  async (name, model) => {
    const document = parse(welcomeOf(model))
    expect(validate(served.schema, document)).toEqual([])
    expect(document.definitions.map((one) => 'name' in one && one.name?.value)).toEqual(['Save', 'List', 'Saved'])
    const response = await fetch(`${open.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query: welcomeOf(model), operationName: 'Save' }),
    })
    const { data, errors } = await response.json()
    expect(errors, name).toBeUndefined()
    expect(data[model.names.save]).toMatchObject({ status: 'SAVED' })
    served.store.clear(model)
  },
)

test('a column has no sample where the token gives it, where it names a row, or where no value at hand fits its rules', () => {
  const samplesOf = (model: Model) => model.columns.map((column) => sampleOf(model, column))
  const comment = models.get('Comment')!
  expect(samplesOf(comment)).toEqual(['something', undefined, 'something', 1, 'HAPPY'])
  const reference = { columns: ['postId'], model: 'Content', parentColumns: ['id'] }
  expect(samplesOf({ ...comment, references: [reference] })[0]).toBeUndefined()
  const ruled = (rules: Partial<Column>) =>
    sampleOf(comment, { ...comment.columns.find(({ name }) => name === 'body')!, ...rules })
  expect(ruled({ pattern: /^\d+$/ })).toBeUndefined()
  expect(ruled({ pattern: /^[a-z]+$/ })).toBe('something')
  expect(ruled({ maxLength: 4 })).toBe('some')
  expect(ruled({ type: 'Int', min: 10, max: 20 })).toBe(10)
  expect(ruled({ type: 'Bytes', exactBytes: 3 })).toBe('AAAA')
})

test('no file of the console names a model', () => {
  const names = new Set(ours.flatMap(({ name, names }) => [name, names.one, names.many, names.saved]))
  names.delete('saved')
  const files = readdirSync('web', { recursive: true, encoding: 'utf8' }).filter(
    (file) => /\.(tsx?|graphql|html)$/.test(file) && !file.startsWith('dist'),
  )
  expect(files.length).toBeGreaterThan(20)
  const found = files.flatMap((file) =>
    readFileSync(`web/${file}`, 'utf8')
      .split('\n')
      // HTTP headers, and an attribute of HTML.
      .map((line) => line.replaceAll(/content-(type|security-policy)| content="/gi, ''))
      .filter((line) => [...names].some((name) => new RegExp(`(?<![\\w/])${name}\\b`).test(line)))
      .map((line) => `${file}: ${line}`),
  )
  expect(found).toEqual([])
})

test('the console saves a row of the chosen model from a form of its columns, and shows it in the feed', async () => {
  const window = await openWindow(browser, open.url)
  const { page } = window
  await choose(window, 'Comment')
  await page.getByText('From the token: author').waitFor()
  expect(await page.locator('form.save label').allInnerTexts()).toEqual([
    expect.stringMatching(/^postId\s+text, at most 36 characters$/),
    expect.stringMatching(/^body\s+text$/),
    expect.stringMatching(/^rating\s+a whole number, from 1 to 5, optional$/),
    expect.stringMatching(/^mood\s+default HAPPY$/),
  ])
  await page.getByLabel('postId').fill('post 1')
  await page.getByLabel('postId').press('Enter')
  await page.getByText('body is missing.').waitFor()
  expect(await page.evaluate(() => document.activeElement?.id)).toBe('column-body')
  await page.getByLabel('body').fill('a comment')
  await page.getByLabel('rating').fill('many')
  await page.getByLabel('body').press('Enter')
  await page.getByText('rating must be a whole number.').waitFor()
  await page.getByLabel('rating').fill('9')
  await page.getByLabel('body').press('Enter')
  const failed = page.locator('.sent li[data-state=failed]')
  await failed.locator('.reason', { hasText: 'rating of Comment must be at least 1 and at most 5, got 9' }).waitFor()
  expect(await page.getByLabel('body').inputValue()).toBe('')
  await choose(window, 'Memo')
  // It comes back to the model, and to what was typed.
  await failed.getByRole('button', { name: 'Edit' }).click()
  await holds(async () => expect(await page.locator('#column-body').inputValue()).toBe('a comment'))
  expect(await page.getByLabel('Model', { exact: true }).inputValue()).toBe('Comment')
  await page.getByLabel('rating').fill('')
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
    fetch(`${open.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query: `mutation { ${field}(${input}: "${text}", waitMs: 20000) { status } }` }),
    }).then(async (response) => expect(JSON.stringify(await response.json())).toContain('SAVED'))
  const memo = (text: string) =>
    fetch(`${open.url}/memos`, { method: 'POST', body: JSON.stringify({ topic: 1, text }) }).then(({ status }) =>
      expect(status).toBe(202),
    )
  const window = await openWindow(browser, open.url)
  const { page } = window
  await page.locator('.rows[aria-label="Saved contents"]').waitFor()
  // The socket that counts is open.
  await holds(async () => expect(await page.locator('[data-number="saves"]').textContent()).toMatch(/^\d/))
  await save('save', 'content', 'the first content')
  await page.locator('.rows li', { hasText: 'the first content' }).waitFor()
  await choose(window, 'Memo')
  await page.locator('.rows[aria-label="Saved memos"]').waitFor()
  await page.getByText('Nothing is saved yet.').waitFor()
  await memo('a memo')
  await page.locator('.rows li', { hasText: 'topic: 1 · text: a memo' }).waitFor()
  await save('save', 'content', 'missed content')
  expect(await page.locator('.rows li').count()).toBe(1)
  // The numbers are those of all models.
  await holds(async () => expect(await numberOf(page, 'total')).toBe(3))
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

test('the form of a model has a field for each type of column, and each value is saved as it was typed', async () => {
  const window = await openWindow(browser, open.url, { timezoneId: 'America/New_York' })
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

test('a spike saves rows of the chosen model', async () => {
  const window = await openWindow(browser, open.url)
  const { page } = window
  await choose(window, 'Every')
  await page.click('button[aria-label="Save 1,000"]')
  await page.locator('[data-spike=done]', { hasText: '1,000 accepted in' }).waitFor({ timeout: 30_000 })
  await choose(window, 'Memo')
  await page.getByText('So many saves at once.').waitFor()
  window.check()
  await window.close()
})

test('the console shows dead letters of all models, or of one, and retries those that it shows', async () => {
  const letters = { Content: { content: 'in the way' }, Memo: { tenantId: 'a', topic: 2, text: 'in the way' } }
  for (const [name, values] of Object.entries(letters)) {
    const model = models.get(name)!
    const id = randomUUID()
    await served.store.insert(model, [{ id, createdAt: new Date(), savedAt: new Date(), ...values }])
    const { columns, names } = model
    const own = Object.fromEntries(columns.map((column) => [column.name, values[column.name as keyof typeof values]]))
    const { tenantId: _, ...input } = { ...own, [columns.at(-1)!.name]: `a letter of ${name}` }
    await fetch(open.url + names.savePath, { method: 'POST', body: JSON.stringify({ ...input, id }) })
  }
  const window = await openWindow(browser, open.url)
  const { page } = window
  const shown = () => page.locator('.letters .text').allInnerTexts()
  await page.locator('.badge', { hasText: '2' }).waitFor()
  await holds(async () => expect((await shown()).sort()).toHaveLength(2))
  const filter = page.getByLabel('Dead letters of the model')
  await filter.selectOption('Memo')
  await holds(async () => expect(await shown()).toEqual([expect.stringContaining('a letter of Memo')]))
  await filter.selectOption('Comment')
  await page.getByText('None of Comment.').waitFor()
  await filter.selectOption('Memo')
  await holds(async () => expect(await shown()).toHaveLength(1))
  served.store.clear(models.get('Memo')!)
  await page.getByRole('button', { name: 'Retry all' }).click()
  await page.getByText('None of Memo.').waitFor({ timeout: 30_000 })
  await filter.selectOption('All models')
  await holds(async () => expect(await shown()).toEqual([expect.stringContaining('a letter of Content')]))
  window.check()
  await window.close()
})

test('the console asks for a token before it shows a model, and what the token may do with it', async () => {
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(locked.url)
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
  await context.close()
})

test.each([
  ['light', { colorScheme: 'light' as const }],
  ['dark', { colorScheme: 'dark' as const }],
  ['a phone', { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true }],
])('the form of every type is accessible and fits the viewport: %s', async (name, options) => {
  const window = await openWindow(browser, open.url, options)
  const { page } = window
  for (const model of ['Comment', 'Every']) {
    await choose(window, model)
    await page.getByRole('button', { name: 'Save', exact: true }).click()
    await page.getByText('is missing.').first().waitFor()
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${model}-${name}.png`, fullPage: true })
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
