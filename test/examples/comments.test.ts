/**
 * The page of examples/comments, as it stands, over the models of docs/models.md, in Chromium: two windows show what either saves, and what is
 * saved without a server waits, also while the page is reloaded.
 */
import { join } from 'node:path'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { boot, type Spillway } from '../harness/boot.ts'
import { launchBrowser } from '../harness/browser.ts'
import { holds } from '../harness/eventually.ts'
import { root } from '../harness/imports.ts'
import { treeWithComments } from '../models/comments.ts'
import { serveExample, workshop } from './example.ts'

const stack = new AsyncDisposableStack()
const problems: string[] = []
let system: Spillway
let browser: Browser
let context: BrowserContext
let url: string

beforeAll(async () => {
  const tree = stack.use(await treeWithComments())
  system = await boot('embedded', { tree: tree.path, env: { AUTH_DEV_CLAIMS: '{"sub":"dev"}' } })
  stack.defer(() => system.stop())
  system.env.PORT = new URL(system.url).port
  const { path } = stack.use(await workshop())
  const alias = { 'spillway-client': join(root, 'client/index.ts') }
  url = stack.use(await serveExample('comments', { path, api: system.url, alias })).url
  browser = await launchBrowser()
  stack.defer(() => browser.close())
  // Windows of one browser, which share its storage.
  context = await browser.newContext()
}, 240_000)
afterAll(() => stack.disposeAsync())

async function open(search = ''): Promise<Page> {
  const page = await context.newPage()
  page.on('pageerror', (error) => problems.push(error.message))
  await page.goto(url + search)
  return page
}

const itemsOf = (page: Page) => page.locator('li').allTextContents()
const said = (page: Page) => page.locator('output').textContent()
async function type(page: Page, text: string): Promise<void> {
  await page.getByLabel('Text').fill(text)
  await page.getByRole('button', { name: 'Save' }).click()
}

test('examples/comments shows in two windows what either saves, and saves after a restart what was typed without a server', async () => {
  const [mine, other] = [await open(), await open()]
  await type(mine, 'A post')
  for (const page of [mine, other]) await holds(async () => expect(await itemsOf(page)).toEqual(['A post, by dev']))
  await holds(async () => expect(await said(mine)).toBe('saved'))

  const link = await other.locator('li a').getAttribute('href')
  for (const page of [mine, other]) await page.goto(url + link)
  await type(mine, 'from mine')
  await holds(async () => expect(await said(mine)).toBe('saved'))
  await type(other, 'from the other')
  const both = ['dev: from the other (5)', 'dev: from mine (5)']
  for (const page of [mine, other]) await holds(async () => expect(await itemsOf(page)).toEqual(both))
  await mine.getByLabel('Rating').fill('3')
  await type(mine, ' ')
  await holds(async () => expect(await said(mine)).toContain('body is blank'))

  const { port } = new URL(system.url)
  await system.kill(system.api)
  await type(mine, 'without a server')
  await holds(async () => expect(await said(mine)).toBe('1 waiting'))
  await mine.reload()
  await holds(async () => expect(await said(mine)).toBe('1 waiting'))
  await system.startApi({ PORT: port })
  for (const page of [mine, other])
    await holds(async () => expect(await itemsOf(page)).toEqual(['dev: without a server (5)', ...both]))
  expect(problems).toEqual([])
}, 240_000)
