/** GraphiQL in a real browser (FC10): it works under its Content-Security-Policy, and no page of another site can frame it. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { boot, type Spillway } from '../harness/boot.ts'
import { launchBrowser } from '../harness/browser.ts'
import { holds } from '../harness/eventually.ts'
import { secret, tokenOf } from '../harness/tenants.ts'

const html = { accept: 'text/html,application/xhtml+xml' }

let system: Spillway
let browser: Browser
beforeAll(async () => {
  system = await boot('embedded')
  browser = await launchBrowser()
})
afterAll(async () => {
  await browser?.close()
  await system?.stop()
})

test('every HTML response forbids frames and guessing of its type (FC10)', async () => {
  for (const path of [
    '/',
    '/graphql',
    '/graphql?query={__typename}',
    '/graphql?query=mutation{save(content:"x"){saveId}}',
  ]) {
    const { headers } = await fetch(system.url + path, { headers: html })
    expect(headers.get('content-type'), path).toContain('text/html')
    expect(headers.get('content-security-policy'), path).toMatch(/default-src 'none'.*frame-ancestors 'none'/)
    expect(Object.fromEntries(headers), path).toMatchObject({
      'x-frame-options': 'DENY',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
    })
  }
})

test('every other response forbids guessing of its type (FC10)', async () => {
  const answers = [
    fetch(`${system.url}/`, { headers: { accept: 'application/json' } }),
    fetch(`${system.url}/nowhere`),
    fetch(`${system.url}/save`, { method: 'POST', body: '{"content":"x"}' }),
    fetch(`${system.url}/metrics`),
    fetch(`${system.url}/readyz`),
    fetch(`${system.url}/graphql?query={__typename}`),
    fetch(`${system.url}/graphql?query={nothing}`),
    fetch(`${system.url}/graphql?query=subscription{saved{cursor}}`, { headers: { accept: 'text/event-stream' } }),
    fetch(`${system.url}/graphql?query=subscription{queue{depth}}`, { headers: { accept: 'text/event-stream' } }),
    ...Array.from({ length: 4 }, () =>
      fetch(`${system.url}/graphql`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"query":"{ contents(first: 1) { edges { cursor } } }"}',
      }),
    ),
  ]
  for (const answer of answers) {
    const { headers, body, url } = await answer
    expect(headers.get('x-content-type-options'), url).toBe('nosniff')
    await body!.cancel()
  }
})

test('GraphiQL loads under its policy and runs a query', async () => {
  const page = await browser.newPage()
  const problems: string[] = []
  page.on('pageerror', (error) => problems.push(String(error)))
  page.on('console', (message) => {
    if (/Content Security Policy|violates/.test(message.text())) problems.push(message.text())
  })
  page.on('request', (request) => {
    if (!/^(data|blob):/.test(request.url()) && new URL(request.url()).origin !== system.url)
      problems.push(request.url())
  })
  const text = encodeURIComponent('query Capacity { queue { capacity } }')
  await page.goto(`${system.url}/graphql?query=${text}`)
  await page.locator('.graphiql-execute-button').click({ timeout: 60_000 })
  await holds(
    async () => expect(await page.locator('.result-window').textContent()).toMatch(/"?capacity"?:\s*1000000/),
    {
      timeoutMs: 60_000,
    },
  )
  expect(problems).toEqual([])
  await page.close()
}, 120_000)

test('GraphiQL of a server with authentication loads, asks for the token, and runs a query with it (FE6)', async () => {
  const locked = await boot('embedded', { env: { AUTH_JWT_SECRET: secret } })
  const page = await browser.newPage()
  try {
    const token = await tokenOf()
    const text = encodeURIComponent('query Capacity { queue { capacity } }')
    await page.goto(`${locked.url}/graphql?query=${text}`)
    const result = page.locator('.result-window')
    const run = page.locator('.graphiql-execute-button')
    await run.click({ timeout: 60_000 })
    await holds(async () => expect(await result.textContent()).toMatch(/Not.authenticated/), { timeoutMs: 60_000 })
    await page.getByRole('button', { name: 'Headers' }).click()
    const headers = page.locator('.graphiql-editor-tool .monaco-editor:visible')
    await holds(async () => expect(await headers.textContent()).toMatch(/authorization.*Bearer.TOKEN/))
    await headers.click()
    // The word TOKEN, in the second line before the closing quote.
    for (const key of ['Control+Home', 'ArrowDown', 'End', 'ArrowLeft', 'Control+Shift+ArrowLeft'])
      await page.keyboard.press(key)
    await page.keyboard.insertText(token)
    await holds(
      async () => {
        await run.click()
        expect(await result.textContent()).toMatch(/"?capacity"?:\s*1000000/)
      },
      { timeoutMs: 60_000, intervalMs: 500 },
    )
  } finally {
    await page.close()
    await locked.stop()
  }
}, 180_000)

test('GraphiQL and the console cannot be framed by another site', async () => {
  const evil: Server = createServer((_request, response) =>
    response
      .setHeader('content-type', 'text/html')
      .end(`<iframe id="a" src="${system.url}/graphql"></iframe><iframe id="b" src="${system.url}/"></iframe>`),
  )
  await new Promise<void>((resolve) => evil.listen(0, '127.0.0.1', resolve))
  const page = await browser.newPage()
  const refused: string[] = []
  page.on('console', (message) => {
    if (/frame-ancestors|X-Frame-Options/i.test(message.text())) refused.push(message.text())
  })
  await page.goto(`http://127.0.0.1:${(evil.address() as AddressInfo).port}/`)
  await holds(() => expect(refused.length).toBeGreaterThanOrEqual(2))
  for (const frame of page.frames().slice(1)) expect(await frame.content()).not.toMatch(/id="root"|Spillway/)
  await page.close()
  await new Promise((resolve) => evil.close(resolve))
}, 60_000)
