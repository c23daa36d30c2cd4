/** What the console shows and does on failures: a server that stops, a queue that fills, an invalid token. */
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { boot, type SetUp, type Spillway, setUps } from '../harness/boot.ts'
import { launchBrowser } from '../harness/browser.ts'
import { holds } from '../harness/eventually.ts'
import { startRedis } from '../harness/redis.ts'
import { statement } from '../harness/rows.ts'
import { secret, tokenOf } from '../harness/tenants.ts'
import { openWindow, startSpike, violationsOf } from './window.ts'

/** The browser's own log line about a server that is unavailable. */
const unavailable = /net::ERR_/
/** The browser's own log line about a refused request. */
const refused = /status of (401|403|503)/

// Each test kills and starts processes.
vi.setConfig({ testTimeout: 60_000 })

let browser: Browser
beforeAll(async () => {
  browser = await launchBrowser()
})
afterAll(() => browser?.close())

const condition = (page: Page, id: string) => page.locator(`[data-condition="${id}"]`)

describe.each(setUps)('the console (%s), after the server was killed and started again,', (setUp) => {
  let system: Spillway
  beforeAll(async () => {
    system = await startOnOnePort(setUp)
  })
  afterAll(() => system?.stop())

  test('saves once what was typed, and shows what happened meanwhile', async () => {
    const window = await openWindow(browser, system.url)
    const { page } = window
    await page.fill('#column-content', 'before')
    await page.press('#column-content', 'Enter')
    await page.locator('.rows li', { hasText: 'before' }).waitFor()
    await system.kill(system.api)
    await condition(page, 'lost').waitFor()
    await page.locator('.connection.lost', { hasText: 'Reconnecting' }).waitFor()
    expect(await page.title()).toBe('⚠ Connection lost · Spillway')
    expect(await violationsOf(page)).toEqual([])
    await page.fill('#column-content', 'while it was away')
    await page.press('#column-content', 'Enter')
    await page.locator('.sent li[data-state=retrying]', { hasText: 'while it was away' }).waitFor()
    await system.startApi()
    await page.locator('.sent li[data-state=saved]', { hasText: 'while it was away' }).waitFor()
    await condition(page, 'lost').waitFor({ state: 'detached' })
    await page.locator('.connection.live').waitFor()
    await page.locator('.rows li', { hasText: 'while it was away' }).waitFor()
    const contents = (await system.client.contents()).map(({ content }) => content)
    expect(contents).toEqual(['while it was away', 'before'])
    window.check(unavailable)
    await window.close()
  })

  test('shows what it missed, after sleep and after a reload', async () => {
    const window = await openWindow(browser, system.url)
    const { page } = window
    await page.fill('#column-content', 'the last one it saw')
    await page.press('#column-content', 'Enter')
    await page.locator('.rows li', { hasText: 'the last one it saw' }).waitFor()
    // Only this page is offline.
    await page.context().setOffline(true)
    await system.kill(system.api)
    await system.startApi()
    await saveMany(system, 'missed', 1_204)
    await holds(async () => expect((await system.client.queue()).depth).toBe(0))
    await page.context().setOffline(false)
    await page.locator('.feed .hint', { hasText: 'caught up 1,204 missed' }).waitFor()
    const top = page.locator('.rows li').first()
    expect(await top.textContent()).toMatch(/missed \d+/)
    // The contents from before and the missed ones are shown once each.
    const before = (await system.client.contents()).length - 1_204
    await holds(async () => expect(await top.getAttribute('aria-setsize')).toBe(String(before + 1_204)))

    // The page stores its cursor once a second, and on unload.
    await page.goto('about:blank')
    await saveMany(system, 'later', 30)
    await holds(async () => expect((await system.client.queue()).depth).toBe(0))
    await page.goto(system.url)
    await page.locator('.feed .hint', { hasText: 'caught up 30 missed' }).waitFor()
    await holds(async () => expect(await top.textContent()).toMatch(/later \d+/))
    window.check(/net::ERR_|a request to about:blank/)
    await window.close()
  })

  test('shows what is saved between its first page and its stream, and counts none of it as missed (P11)', async () => {
    const window = await openWindow(browser, system.url)
    const { page } = window
    await page.evaluate('sessionStorage.clear()')
    await page.goto('about:blank')
    let streams = 0
    await page.route('**/graphql', async (route) => {
      const { query, variables } = route.request().postDataJSON()
      if (query.startsWith('subscription Saved(') && streams++ === 0) {
        expect(variables.after).toEqual(expect.any(String))
        await saveMany(system, 'in between', 3)
        await holds(async () => expect((await system.client.queue()).depth).toBe(0))
      }
      await route.fallback()
    })
    // What the page stored as it was left would be where the stream goes on.
    await page.addInitScript('sessionStorage.clear()')
    await page.addInitScript(() => {
      const states = new Set<string>()
      Object.assign(globalThis, { states })
      const note = () => states.add(document.querySelector<HTMLElement>('[data-feed]')?.dataset.feed ?? '')
      new MutationObserver(note).observe(document, { subtree: true, childList: true, attributes: true })
    })
    await page.goto(system.url)
    await page.locator('.rows li', { hasText: 'in between 2' }).waitFor()
    await page.locator('.connection.live').waitFor()
    expect(await page.locator('.rows li', { hasText: /in between \d/ }).count()).toBe(3)
    expect(await page.locator('.feed .hint').textContent()).not.toContain('missed')
    const states = await page.evaluate(() => [...(globalThis as unknown as { states: Set<string> }).states])
    expect(states).toContain('live')
    expect(states).not.toContain('catching up')
    window.check(/net::ERR_|a request to about:blank/)
    await window.close()
  })

  test('reads its list again when its place in the log has expired, and says so', async () => {
    const window = await openWindow(browser, system.url)
    const { page } = window
    await saveMany(system, 'of today', 2)
    await page.goto('about:blank')
    await page.addInitScript(
      `sessionStorage.setItem('spillway.cursor.Content', 'anotherEpoch.00000000000001.000000.000000')`,
    )
    await page.goto(system.url)
    await page.locator('.feed .hint', { hasText: 'too many rows were missed: the list was read again' }).waitFor()
    await page.locator('.connection.live').waitFor()
    await page.locator('.rows li', { hasText: 'of today' }).first().waitFor()
    await saveMany(system, 'of now', 1)
    await page.locator('.rows li', { hasText: 'of now' }).waitFor()
    window.check(/net::ERR_|a request to about:blank|status of 410/)
    await window.close()
  })

  test('sends what was not saved yet after a reload, under the same id', async () => {
    const window = await openWindow(browser, system.url)
    const { page } = window
    const ids: string[] = []
    let reloaded = false
    await page.route('**/graphql', async (route) => {
      const { query, variables } = route.request().postDataJSON()
      if (!query.startsWith('mutation Save(')) return await route.fallback()
      ids.push(...variables.inputs.map(({ id }: { id: string }) => id))
      if (!reloaded) return await route.abort('connectionrefused')
      // The response to the first save is lost; the save itself is not.
      reloaded = false
      await route.fetch()
      await route.abort('connectionreset')
      await page.unroute('**/graphql')
    })
    await page.fill('#column-content', 'not sent at first')
    await page.press('#column-content', 'Enter')
    await page.locator('.sent li[data-state=retrying]').waitFor()
    await page.route('**/console/assets/*.js', async (route) => {
      reloaded = true
      await route.continue()
    })
    await page.reload()
    await page.locator('.sent li[data-state=saved]', { hasText: 'not sent at first' }).waitFor()
    const rows = (await system.client.contents()).filter(({ content }) => content === 'not sent at first')
    expect(ids.length).toBeGreaterThan(1)
    expect(new Set(ids)).toEqual(new Set(rows.map(({ id }) => id)))
    expect(rows).toHaveLength(1)
    window.check(unavailable)
    await window.close()
  })
})

describe('the console of a queue without a worker', () => {
  test('shows what is wrong first: no worker, a full queue, a table that takes no rows, a worker that is gone', async () => {
    const intervals = { reportEveryMs: 500, maxBackoffMs: 500 }
    const system = await boot('redis + mariadb', { env: { QUEUE_CAPACITY: '100' }, workers: 0, intervals })
    try {
      const window = await openWindow(browser, system.url)
      const { page } = window
      const icon = () => page.locator('link[rel=icon]').getAttribute('href')
      const news = page.locator('[data-news]')
      await saveMany(system, 'waiting', 79)
      await condition(page, 'no-worker').getByText('No worker runs.').waitFor()
      await news.getByText('No worker runs.').waitFor({ state: 'attached' })
      expect(await page.title()).toBe('⚠ No worker · Spillway')
      expect(await icon()).toContain('icon-bad')
      expect(await condition(page, 'high').count()).toBe(0)
      await saveMany(system, 'waiting more', 1)
      await condition(page, 'high').getByText('The queue is 80 % full.').waitFor()
      await saveMany(system, 'waiting still', 20)
      await condition(page, 'full').getByText('The queue is full: saves are refused.').waitFor()
      expect(await condition(page, 'high').count()).toBe(0)
      // The worst first, above everything else.
      const conditions = page.locator('[data-condition]')
      expect(await conditions.first().getAttribute('data-condition')).toBe('no-worker')
      expect((await conditions.last().boundingBox())!.y).toBeLessThan((await page.locator('.flow').boundingBox())!.y)
      await page.fill('#column-content', 'refused at first')
      await page.press('#column-content', 'Enter')
      await page.locator('.sent li[data-state=retrying] .reason').waitFor()
      expect(await violationsOf(page)).toEqual([])
      const worker = await system.startWorker()
      await page.locator('.sent li[data-state=saved]', { hasText: 'refused at first' }).waitFor()
      await page.locator('[data-state=working]').waitFor()
      expect(await conditions.count()).toBe(0)
      expect(await news.textContent()).toContain('Over: ')
      expect(await page.title()).toBe('Spillway')
      expect(await icon()).not.toContain('icon-bad')
      const running = page.getByRole('list', { name: 'Running workers' }).locator('li')
      await running.getByText(`process ${worker.pid}, release `).waitFor()

      await statement(system.env.DATABASE_URL!, 'RENAME TABLE Content TO Away')
      await saveMany(system, 'held', 2)
      const away = condition(page, 'database')
      await away.getByText(/^The database takes no rows since [\w ]*\d\d:\d\d for Content: 1146\.$/).waitFor()
      await away.getByText(/^Last error, [\w ]*\d\d:\d\d: ./).waitFor()
      await running.getByText('Waits for a table').waitFor()
      await running.getByText(/Content: \d+ in flight.*, waits since .*: 1146/).waitFor()
      expect(await violationsOf(page)).toEqual([])

      await system.kill(worker)
      await condition(page, 'no-worker')
        .getByText(/^No worker runs since [\w ]*\d\d:\d\d\.$/)
        .waitFor()
      const ended = page.getByRole('list', { name: 'Ended workers' }).locator('li', { hasText: String(worker.pid) })
      await ended.getByText('Gone').waitFor()
      await ended.getByText(/^Nothing was heard of it since [\w ]*\d\d:\d\d:\d\d/).waitFor()
      expect(await running.count()).toBe(0)
      expect(await violationsOf(page)).toEqual([])
      window.check(refused)
      await window.close()
    } finally {
      await system.stop()
    }
  }, 120_000)

  test('leaves connections to each of three tabs whose saves wait: a browser has six for all of them', async () => {
    const system = await boot('redis + mariadb', { workers: 0 })
    const context = await browser.newContext()
    context.setDefaultTimeout(30_000)
    try {
      const tabs = await Promise.all(Array.from({ length: 3 }, () => context.newPage()))
      for (const [i, tab] of tabs.entries()) {
        await tab.goto(system.url)
        await tab.locator('.connection.live').waitFor()
        await tab.fill('#column-content', `of tab ${i}`)
        await tab.press('#column-content', 'Enter')
        await tab.locator('.sent li[data-state=queued]').waitFor()
      }
      // Each of them has asked after its save.
      await holds(async () => {
        for (const tab of tabs) expect(await tab.locator('[data-number=depth]').textContent()).toMatch(/^3 /)
        for (const tab of tabs) expect(await condition(tab, 'no-worker').count()).toBe(1)
      })
      await system.startWorker()
      for (const tab of tabs) await tab.locator('.sent li[data-state=saved]').waitFor()
    } finally {
      await context.close()
      await system.stop()
    }
  })

  test('cancels a spike that the server refuses, and counts what was accepted', async () => {
    const system = await boot('redis + mariadb', { env: { QUEUE_CAPACITY: '2000' }, workers: 0 })
    try {
      const window = await openWindow(browser, system.url)
      const { page } = window
      await startSpike(page, '10,000')
      await page.locator('[data-spike].bad').waitFor()
      await page.getByRole('button', { name: 'Cancel' }).click()
      await page.locator('[data-spike]', { hasText: 'Cancelled after' }).waitFor()
      expect(await page.locator('.bar').first().textContent()).toContain('2,000 of 10,000')
      await system.startWorker()
      await page.locator('[data-spike=done]', { hasText: 'Cancelled after 2,000' }).waitFor()
      expect(await system.client.contents()).toHaveLength(2_000)
      window.check(refused)
      await window.close()
    } finally {
      await system.stop()
    }
  })
})

test('the console shows that a power cut may lose saves', async () => {
  const redis = await startRedis({ args: ['--appendfsync', 'everysec'] })
  const system = await boot('redis + mariadb', { env: { QUEUE_URL: redis.url }, workers: 0 })
  try {
    const window = await openWindow(browser, system.url)
    await condition(window.page, 'durability').getByText('Durability is EVERYSEC, not FSYNC.').waitFor()
    window.check()
    await window.close()
  } finally {
    await system.stop()
    await redis.cleanup()
  }
})

describe('the console of a server with authentication', () => {
  let system: Spillway
  beforeAll(async () => {
    system = await boot('embedded', { env: { AUTH_JWT_SECRET: secret, CONSOLE_SPIKE: 'false' } })
  })
  afterAll(() => system?.stop())

  const token = (scope: string) => tokenOf({ scope })

  test('asks for a token, and shows what the token allows', async () => {
    const context = await browser.newContext()
    context.setDefaultTimeout(15_000)
    const page = await context.newPage()
    await page.goto(system.url)
    const use = async (text: string) => {
      await page.getByLabel('Token').fill(text)
      await page.getByRole('button', { name: 'Use' }).click()
    }
    const panels = () =>
      page.locator('.panel h2').evaluateAll((all) => all.map(({ firstChild }) => firstChild!.textContent!.trim()))
    await page.getByText('This server asks for a token.').waitFor()
    expect(await page.getByLabel('Token').getAttribute('placeholder')).toBe('A token (JWT)')
    await page.getByText('Sign in with a token to see the status.').waitFor()
    await page.locator('.connection', { hasText: 'Signed out' }).waitFor()
    await holds(async () => expect(await panels()).toEqual([]))
    expect(await violationsOf(page)).toEqual([])

    await use('not.a.token')
    await page.getByText('Not authenticated: the token is not valid.').waitFor()
    await page.locator('.connection', { hasText: 'Signed out' }).waitFor()

    await page.getByPlaceholder('Another token (JWT)').waitFor()
    // As it stands in a header.
    await use(` bearer  ${await token('read')} `)
    await holds(async () => expect(await panels()).toEqual(['Queue and dead letters', 'Save', 'Live feed']))
    await page
      .locator('.missing', { hasText: 'This token lacks the scope write. With it you may save here.' })
      .waitFor()
    expect(await page.locator('form.save').count()).toBe(0)
    await page.getByText('This token may not save, nor see the queue and dead letters.').waitFor()
    await page.getByText('It takes a token with the scope admin.').waitFor()
    await page.locator('.connection.live').waitFor()

    await use(await token('read write'))
    await holds(async () => expect(await panels()).toEqual(['Queue and dead letters', 'Save', 'Live feed']))
    await page.fill('#column-content', 'with a token')
    await page.press('#column-content', 'Enter')
    await page.locator('.rows li', { hasText: 'with a token' }).waitFor()

    await use(await token('read write admin'))
    await holds(async () => expect(await panels()).toEqual(['Queue', 'Dead letters', 'Workers', 'Save', 'Live feed']))
    await page.getByText('This token may do everything.').waitFor()
    await page.locator('.rows li', { hasText: 'with a token' }).waitFor()
    await page.locator('.in-words', { hasText: ': 1 save accepted, 1 row persisted, 0 saves refused' }).waitFor()
    await page.reload()
    await page.locator('.connection.live').waitFor()
    await holds(async () => expect(await panels()).toHaveLength(5))

    await page.getByRole('button', { name: 'Forget' }).click()
    await page.getByText('This server asks for a token.').waitFor()
    await holds(async () => expect(await panels()).toEqual([]))
    expect(await page.locator('.rows, .sent').count()).toBe(0)
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0)
    await context.close()
  })
})

/** A server that keeps its port across restarts. */
async function startOnOnePort(setUp: SetUp): Promise<Spillway> {
  const system = await boot(setUp, { workers: 1 })
  system.env.PORT = new URL(system.url).port
  return system
}

async function saveMany(system: Spillway, name: string, total: number): Promise<void> {
  for (let from = 0; from < total; from += 1_000) {
    const inputs = Array.from({ length: Math.min(1_000, total - from) }, (_, i) => ({ content: `${name} ${from + i}` }))
    expect((await system.client.saveMany(inputs)).data.saveMany).toHaveLength(inputs.length)
  }
}
