/**
 * The examples with a page, as they stand, in Chromium: each shows what was saved before and after it was opened, saves what is typed, and
 * misses and doubles nothing while the server is killed and started again. Apollo Client 3 runs the page that is written for 4.
 */
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway } from '../harness/boot.ts'
import { launchBrowser } from '../harness/browser.ts'
import { holds } from '../harness/eventually.ts'
import { root } from '../harness/imports.ts'
import { type Served, serveExample, workshop } from './example.ts'

const names = ['react-urql', 'react-apollo', 'react-apollo with Apollo Client 3', 'relay', 'plain-html'] as const
type Name = (typeof names)[number]

const stack = new AsyncDisposableStack()
const pages = new Map<Name, Page>()
/** What each page said of errors. */
const problems: string[] = []
let system: Spillway
let browser: Browser

beforeAll(async () => {
  const folder = await serveFolder(join(root, 'examples/plain-html'))
  stack.use(folder)
  const origin = new URL(folder.url).origin
  system = await boot('embedded', { env: { CORS_ORIGINS: origin } })
  stack.defer(() => system.stop())
  system.env.PORT = new URL(system.url).port
  await save('before the pages')
  const { path } = stack.use(await workshop())
  const options = { path, api: system.url }
  const alias = { '@apollo/client': join(root, 'node_modules/apollo-client-3') }
  const served: Record<Name, string> = {
    'react-urql': stack.use(await serveExample('react-urql', options)).url,
    'react-apollo': stack.use(await serveExample('react-apollo', options)).url,
    'react-apollo with Apollo Client 3': stack.use(await serveExample('react-apollo', { ...options, alias })).url,
    relay: stack.use(await serveExample('relay', options)).url,
    'plain-html': `${folder.url}?api=${encodeURIComponent(system.url)}`,
  }
  browser = await launchBrowser()
  stack.defer(() => browser.close())
  for (const name of names) {
    const page = await browser.newPage()
    page.on('pageerror', (error) => problems.push(`${name}: ${error.message}`))
    await page.goto(served[name])
    pages.set(name, page)
  }
}, 120_000)
afterAll(() => stack.disposeAsync())

/** The files of a folder, as any web server has them: of another origin than the API. */
async function serveFolder(folder: string): Promise<Served> {
  const types: Record<string, string> = { html: 'text/html', js: 'text/javascript' }
  const server = createServer(async (request, response) => {
    const name = new URL(request.url!, 'http://x').pathname.slice(1) || 'index.html'
    const body = await readFile(join(folder, name)).catch(() => undefined)
    response.writeHead(body ? 200 : 404, { 'content-type': types[name.split('.').at(-1)!] ?? 'text/plain' }).end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const dispose = async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, [Symbol.asyncDispose]: dispose }
}

async function save(content: string): Promise<void> {
  const response = await fetch(`${system.url}/save`, { method: 'POST', body: JSON.stringify({ content }) })
  expect(response.status).toBe(202)
}

const rowsOf = (page: Page) => page.locator('li').allTextContents()
const type = async (page: Page, content: string) => {
  await page.getByRole('textbox').fill(content)
  await page.getByRole('button', { name: 'Save' }).click()
}

const expected = ['before the pages']

describe.each(names)('the page of %s', (name) => {
  test('shows what was saved before it was opened, and what it saves itself, once', async () => {
    const page = pages.get(name)!
    await holds(async () => expect(await rowsOf(page)).toContain('before the pages'))
    await type(page, `typed into ${name}`)
    expected.push(`typed into ${name}`)
    await holds(async () => expect(await page.locator('output').textContent()).toBe('saved'))
    await holds(async () => expect((await rowsOf(page)).sort()).toEqual([...expected].sort()))
  })
})

test('every page of examples/ shows all rows once, after the server was killed while they were open and while they saved', async () => {
  await save('while all are open')
  expected.push('while all are open')
  const { port } = new URL(system.url)
  await system.kill(system.api)
  for (const [name, page] of pages) await type(page, `typed into ${name} without a server`)
  for (const name of names) expected.push(`typed into ${name} without a server`)
  for (const page of pages.values())
    await holds(async () => expect(await page.locator('output').textContent()).toBe('saving'))
  await system.startApi({ PORT: port })
  await save('after the restart')
  expected.push('after the restart')
  for (const [name, page] of pages) {
    await holds(async () => expect([name, (await rowsOf(page)).sort()]).toEqual([name, [...expected].sort()]))
    await holds(async () => expect(await page.locator('output').textContent()).toBe('saved'))
  }
  const all = (await system.client.contents()).map(({ content }) => content)
  expect(all.sort()).toEqual([...expected].sort())
  expect(problems).toEqual([])
})

test('examples/plain-html follows by the lines of docs/browser.md', async () => {
  const [copy, lines] = await Promise.all(
    ['examples/plain-html/show.js', 'test/harness/ten-lines.js'].map((file) => readFile(join(root, file), 'utf8')),
  )
  expect(copy).toBe(lines)
})
