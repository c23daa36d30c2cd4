/**
 * docs/browser.md, as it stands: its Vite proxy before an API that needs tokens, its token, and its lines for Server-Sent Events and
 * WebSocket in Chromium. Each gets every row, through a restart of the server. (test/console/graphiql.test.ts has GraphiQL with a token.)
 */

import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { boot, type Spillway } from '../harness/boot.ts'
import { launchBrowser } from '../harness/browser.ts'
import { client } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { root } from '../harness/imports.ts'
import { secret, tokenOf } from '../harness/tenants.ts'
import { serveFolder, workshop } from './example.ts'

const stack = new AsyncDisposableStack()
let system: Spillway
let browser: Browser
let text: string
/** Of Vite. */
let url: string
const block = (language: string, file = '') =>
  new RegExp(`^\`\`\`${language} ?${file}\\n([\\s\\S]*?)^\`\`\`$`, 'm').exec(text)![1]!

/** What a page of one's own has around the lines. */
const around = `
const savedCursor = new URLSearchParams(location.search).get('cursor')
window.token = ''
window.shown = []
window.begun = 0
const currentToken = async () => window.token
const show = ({ content }) => window.shown.push(content)
const readPageAgain = (problem) => window.shown.push(JSON.stringify(problem))
`

beforeAll(async () => {
  text = await readFile(join(root, 'docs/browser.md'), 'utf8')
  system = await boot('embedded', { env: { AUTH_JWT_SECRET: secret } })
  stack.defer(() => system.stop())
  system.env.PORT = new URL(system.url).port
  const { path } = stack.use(await workshop())
  const folder = join(path, 'page')
  await mkdir(folder)
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  await writeFile(
    join(folder, 'vite.config.js'),
    block('js', 'vite.config.js').replaceAll('http://127.0.0.1:8080', system.url),
  )
  for (const name of ['sse', 'websocket']) {
    // The token comes after the page: until then the lines wait.
    const lines = block('js', `${name}.js`)
    const [imports] = /^(?:import .*\n)+/.exec(lines)!
    const begin = `window.begin = () => {\n${lines.slice(imports.length)}\n}\n`
    await writeFile(join(folder, `${name}.js`), imports + around + begin)
    await writeFile(
      join(folder, `${name}.html`),
      `<!doctype html><title>x</title><script type="module" src="./${name}.js"></script>`,
    )
  }
  url = stack.use(await serveFolder(folder, { pages: ['sse', 'websocket'] })).url
  browser = await launchBrowser()
  stack.defer(() => browser.close())
}, 120_000)
afterAll(() => stack.disposeAsync())

const operator = async () => client(() => system.url, await tokenOf())

async function save(content: string): Promise<void> {
  const query = 'mutation ($content: String!) { save(content: $content, waitMs: 20000) { status } }'
  expect((await (await operator()).graphql(query, { content })).data.save.status).toBe('SAVED')
}

test('docs/browser.md: its token, and its lines for streams with a token behind its Vite proxy, miss nothing through a restart', async () => {
  const command = block('console')
    .replace(/^\$ export .*\n/, '')
    .replace(/^\$ /, '')
  const { stdout } = await promisify(execFile)('/bin/sh', ['-c', command], {
    cwd: root,
    env: { ...process.env, AUTH_JWT_SECRET: secret },
  })
  const token = stdout.trim()
  const page = await (await operator()).graphql('{ contents(first: 1) { savedCursor } }')
  await save('before')
  const pages: Page[] = []
  for (const name of ['sse', 'websocket']) {
    const one = await browser.newPage()
    await one.goto(`${url}${name}.html?cursor=${encodeURIComponent(page.data.contents.savedCursor)}`)
    await one.evaluate(`window.token = ${JSON.stringify(token)}; begin()`)
    pages.push(one)
  }
  const shown = (one: Page) => one.evaluate('window.shown') as Promise<string[]>
  for (const one of pages) await holds(async () => expect(await shown(one)).toEqual(['before']))
  await system.kill(system.api)
  await system.startApi({ PORT: system.env.PORT! })
  await save('after the restart')
  for (const one of pages)
    await holds(async () => expect([...new Set(await shown(one))]).toEqual(['before', 'after the restart']))
})

test('docs/browser.md: REST and GraphQL pass its Vite proxy with the token, and without one get 401', async () => {
  const page = await browser.newPage()
  await page.goto(`${url}sse.html`)
  const authorization = `Bearer ${await tokenOf()}`
  const query = new URLSearchParams({ query: '{ __typename }' })
  for (const [path, status] of [
    ['/receipts/01a21300-0000-7000-8000-000000000001', 404],
    [`/graphql?${query}`, 200],
  ] as const) {
    const ask = (headers: object) =>
      page.evaluate(
        `fetch(${JSON.stringify(path)}, { headers: ${JSON.stringify(headers)} }).then(({ status }) => status)`,
      )
    expect([await ask({}), await ask({ authorization })]).toEqual([401, status])
  }
})
