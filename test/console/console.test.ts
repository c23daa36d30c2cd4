/** The console in a real browser, on both set-ups: what a user does, and what the console then shows. */
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps } from '../harness/boot.ts'
import { launchBrowser } from '../harness/browser.ts'
import { holds } from '../harness/eventually.ts'
import { numberOf, openWindow, rowsOf, violationsOf } from './window.ts'

/** The CPU time of the longest task of the traced page: how long it takes on a machine that does nothing else. */
function longestTaskMs(trace: Buffer): number {
  const { traceEvents }: { traceEvents: { name: string; tdur?: number }[] } = JSON.parse(trace.toString())
  const tasks = traceEvents.flatMap(({ name, tdur }) =>
    name === 'RunTask' && tdur !== undefined ? [tdur / 1_000] : [],
  )
  expect(tasks.length).toBeGreaterThan(1_000)
  return tasks.reduce((longest, ms) => Math.max(longest, ms))
}

describe.each(setUps)('the console (%s)', (setUp) => {
  let system: Spillway
  let browser: Browser
  beforeAll(async () => {
    ;[system, browser] = await Promise.all([boot(setUp, { workers: 1 }), launchBrowser()])
  })
  afterAll(async () => {
    await browser?.close()
    await system?.stop()
  })
  const open = (options = {}) => openWindow(browser, system.url, options)

  test('shows a save at once, then SAVED, in both windows', async () => {
    const [mine, other] = await Promise.all([open(), open()])
    const row = mine.page.locator('.sent li', { hasText: 'from one window' })
    await mine.page.fill('#column-content', 'from one window')
    await mine.page.click('.save button[type=submit]')
    expect(await row.getAttribute('data-state')).toMatch(/sending|queued|saved/)
    await row.locator('.state', { hasText: /^saved [\d.]+ (ms|s)$/ }).waitFor()
    expect(await mine.page.inputValue('#column-content')).toBe('')
    await other.page.fill('#column-content', 'from the other one')
    await other.page.press('#column-content', 'Enter')
    for (const { page } of [mine, other]) {
      await page.locator('.rows li', { hasText: 'from one window' }).waitFor()
      await page.locator('.rows li', { hasText: 'from the other one' }).waitFor()
    }
    for (const window of [mine, other]) {
      window.check()
      await window.close()
    }
  })

  test('shows why a save failed, and gives the text back', async () => {
    const window = await open()
    const text = 'x'.repeat(70_000)
    await window.page.fill('#column-content', text)
    await window.page.press('#column-content', 'Enter')
    const row = window.page.locator('.sent li[data-state=failed]')
    await row.locator('.reason', { hasText: 'content is 70000 bytes of UTF-8; at most 65536 are allowed' }).waitFor()
    await row.getByRole('button', { name: 'Edit' }).click()
    expect(await window.page.inputValue('#column-content')).toBe(text)
    // The browser logs a line for each response with status 400.
    window.check(/status of 400/)
    await window.close()
  })

  test('shows any text unchanged: right to left, emoji, long, with tags', async () => {
    const window = await open()
    const texts = [
      'سلام دنیا، این متن راست‌به‌چپ است',
      '👩‍👩‍👧‍👦 🇪🇺 e\u0301',
      'long'.repeat(2_000),
      '<img src=x onerror=alert(1)>',
      'two\nlines',
    ]
    const mutation = 'mutation ($content: String!) { save(content: $content) { saveId } }'
    for (const content of texts)
      await holds(async () => expect((await system.client.graphql(mutation, { content })).errors).toBeUndefined())
    for (const text of texts)
      await window.page.locator('.rows li').getByText(text.slice(0, 300), { exact: true }).waitFor()
    const arabic = window.page.locator('.rows .text', { hasText: texts[0]! })
    expect(await arabic.evaluate((element) => getComputedStyle(element).direction)).toBe('rtl')
    const box = await window.page.locator('.rows').evaluate(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)
    expect(box).toBe(0)
    await window.page.locator('.rows li', { hasText: 'longlong' }).click()
    // Until it is open, Escape closes nothing.
    await window.page.locator('dialog[open] .whole').waitFor()
    await holds(async () => expect(await window.page.locator('dialog .whole').textContent()).toBe(texts[2]))
    await window.page.keyboard.press('Escape')
    await window.page.locator('dialog').waitFor({ state: 'detached' })
    window.check()
    await window.close()
  })

  test('shows how a spike of 10,000 saves rises and drains, and stays responsive', async () => {
    const window = await open()
    const { page } = window
    await browser.startTracing(page, { categories: ['disabled-by-default-devtools.timeline'] })
    await page.locator('.spike summary').click()
    const offer = page.getByRole('button', { name: 'Spike of 10,000 rows', exact: true })
    // What comes later, as the charts do, moves it.
    await holds(async () => {
      const bottoms = await page
        .locator('main button:visible')
        .evaluateAll((all) => all.map((one) => one.getBoundingClientRect().bottom))
      const { y, height } = (await offer.boundingBox())!
      expect(y + height).toBeCloseTo(Math.max(...bottoms), 0)
    })
    await offer.click()
    await page.locator('dialog', { hasText: 'Write 10,000 rows of Content into the database?' }).waitFor()
    await holds(async () =>
      expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('Write nothing'),
    )
    await page.keyboard.press('Enter')
    await page.locator('dialog').waitFor({ state: 'detached' })
    expect(await page.locator('[data-spike]').count()).toBe(0)
    await offer.click()
    await page.getByRole('button', { name: 'Write 10,000 rows' }).click()
    await page.fill('#column-content', 'typed meanwhile')
    await page.locator('[data-spike=done]', { hasText: '10,000 accepted in' }).waitFor({ timeout: 60_000 })
    // Single frames may be missed; half a second without a frame may not.
    expect(longestTaskMs(await browser.stopTracing())).toBeLessThan(500)
    expect(await page.locator('.bar').allInnerTexts()).toEqual([
      expect.stringContaining('10,000 of 10,000'),
      expect.stringContaining('10,000 of 10,000'),
    ])
    await holds(async () => {
      expect(await numberOf(page, 'total')).toBeGreaterThanOrEqual(10_000)
      expect(await numberOf(page, 'depth')).toBe(0)
    })
    const words = () => page.locator('[data-chart=flow]').getAttribute('aria-label')
    // The newest point may be of a moment before the last row.
    await holds(async () => {
      expect(await words()).toMatch(/1\d,\d\d\d saves accepted, 1\d,\d\d\d rows persisted, 0 saves refused/)
      expect(await words()).toMatch(/The backlog was [\d,]+ at most.* and is 0 now\./)
      expect(await colored(page)).toBeGreaterThan(100)
    })
    // The server has not run for long: before that, there is no line.
    expect(await colored(page, 0.3)).toBe(0)
    expect(await words()).toMatch(/Nothing was counted in \d\d steps of 60\./)
    expect(await page.locator('[data-chart=durations]').count()).toBe(1)
    await page.getByLabel('Point in time').focus()
    await page.keyboard.press('Home')
    expect(await page.getByLabel('Point in time').getAttribute('aria-valuetext')).toMatch(
      /^[\d:]+: nothing was counted$/,
    )
    await page.getByRole('button', { name: '1 hour' }).click()
    await holds(async () => expect(await words()).toMatch(/^In the last hour: 1\d,\d\d\d saves accepted/), {
      timeoutMs: 30_000,
    })
    expect((await rowsOf(page)).inDocument).toBeLessThan(60)
    expect(await page.inputValue('#column-content')).toBe('typed meanwhile')
    await page.reload()
    await holds(async () => expect(await words()).toMatch(/^In the last hour: 1\d,\d\d\d saves accepted/))
    expect(await colored(page)).toBeGreaterThan(10)
    window.check(/willReadFrequently/)
    await window.close()
  })

  test('draws each label of its charts whole, however long a save took', async () => {
    const window = await open()
    const { page } = window
    await page.route('**/graphql', async (route) => {
      if (!route.request().postData()?.includes('queueHistory')) return route.fallback()
      const response = await route.fetch()
      const json = await response.json()
      for (const point of json.data.queueHistory.points)
        point.saveToEvent = { p50: 1_000, p95: 100_000, p99: 1_000_000 }
      await route.fulfill({ response, json })
    })
    await page.addInitScript(() => {
      const drawn: string[] = []
      const { prototype } = CanvasRenderingContext2D
      const { fillText } = prototype
      prototype.fillText = function (text, x, y) {
        const { actualBoundingBoxLeft, actualBoundingBoxRight } = this.measureText(text)
        const isWhole = x - actualBoundingBoxLeft >= 0 && x + actualBoundingBoxRight <= this.canvas.width
        drawn.push(isWhole ? text : `cut off: ${text}`)
        fillText.call(this, text, x, y)
      }
      Object.assign(globalThis, { drawn })
    })
    await page.reload()
    const drawn = () => page.evaluate(() => (globalThis as unknown as { drawn: string[] }).drawn)
    await holds(async () =>
      expect(await drawn()).toEqual(
        expect.arrayContaining([expect.stringContaining('16 min 40 s'), expect.stringMatching(/\d\/s$/)]),
      ),
    )
    expect((await drawn()).filter((label) => label.startsWith('cut off'))).toEqual([])
    window.check()
    await window.close()
  })

  test('keeps a bounded number of rows in the document, and loads older ones', async () => {
    const window = await open()
    const { page } = window
    await page.locator('.rows li').first().waitFor()
    const all = new Set((await system.client.contents()).map(({ id }) => id)).size
    await page.locator('.feed .hint', { hasText: '100 rows loaded' }).waitFor()
    for (let rows = 200; rows <= 500; rows += 100) {
      await page.locator('.more').click()
      await page.locator('.feed .hint', { hasText: `${rows} rows loaded` }).waitFor()
    }
    expect(all).toBeGreaterThan(500)
    const { inDocument, scrollHeight } = await rowsOf(page)
    expect(inDocument).toBeLessThan(60)
    expect(scrollHeight).toBeGreaterThan(500 * 30)
    await page.locator('.rows').evaluate((box) => box.scrollTo({ top: 8_000 }))
    const row = page.locator('.rows li[aria-posinset="240"]')
    const before = await row.textContent()
    const { y } = (await row.boundingBox())!
    await system.client.graphql('mutation { save(content: "comes while somebody reads", waitMs: 10000) { saveId } }')
    await page.locator('.feed .hint', { hasText: '501 rows loaded' }).waitFor()
    const same = page.locator('.rows li[aria-posinset="241"]')
    expect(await same.textContent()).toBe(before)
    expect((await same.boundingBox())!.y).toBeCloseTo(y, 0)
    await page.getByRole('button', { name: '↑ Newest' }).click()
    await page.locator('.rows li', { hasText: 'comes while somebody reads' }).waitFor()
    window.check()
    await window.close()
  })

  test('pauses persisting after a confirmation, shows it loudly, and resumes', async () => {
    const window = await open()
    const { page } = window
    const pause = page.getByRole('button', { name: 'Pause persisting' })
    await pause.click()
    await page.locator('dialog', { hasText: 'It stays paused through restarts' }).waitFor()
    await holds(async () =>
      expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('Go on persisting'),
    )
    await page.keyboard.press('Enter')
    await page.locator('dialog').waitFor({ state: 'detached' })
    await pause.click()
    await page.locator('dialog').getByRole('button', { name: 'Pause', exact: true }).click()
    const paused = page.locator('[data-condition=paused]')
    await paused.getByText(/^Persisting is paused since [\w ]*\d\d:\d\d\.$/).waitFor()
    await holds(async () => expect(await page.title()).toMatch(/⚠ Paused · Spillway$/))
    await page.locator('.worker-list .worker-state', { hasText: 'Paused' }).waitFor()
    await page.fill('#column-content', 'while it is paused')
    await page.press('#column-content', 'Enter')
    const sent = page.locator('.sent li', { hasText: 'while it is paused' })
    await sent.and(page.locator('[data-state=queued]')).waitFor()
    expect(await violationsOf(page)).toEqual([])
    await page.reload()
    await paused.waitFor()
    const isResume = (text: string) => text.startsWith('mutation ResumePersisting')
    await page.route('**/graphql', (route) =>
      isResume(route.request().postDataJSON().query) ? route.abort('connectionrefused') : route.fallback(),
    )
    await paused.getByRole('button', { name: 'Resume' }).click()
    await paused.getByText('The server cannot be reached.').waitFor()
    await page.unroute('**/graphql')
    await paused.getByRole('button', { name: 'Resume' }).click()
    await paused.waitFor({ state: 'detached' })
    expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe('Status')
    await page.locator('.rows li', { hasText: 'while it is paused' }).waitFor()
    window.check(/net::ERR_/)
    await window.close()
  })

  test('can be used with the keyboard alone', async () => {
    const window = await open()
    const { page } = window
    await page.locator('.rows li').first().waitFor()
    const press = async (key: string, times = 1) => {
      for (let i = 0; i < times; i++) await page.keyboard.press(key)
    }
    const focused = () =>
      page.evaluate(() => {
        const element = document.activeElement!
        const { outlineStyle, outlineWidth } = getComputedStyle(element)
        const name = element.getAttribute('aria-label') ?? (element.id || element.textContent)
        // The browser draws the outline around the part of a time that has the focus.
        const isTime = element.matches('[type=datetime-local]')
        return { name, visible: isTime || (outlineStyle === 'solid' && outlineWidth !== '0px') }
      })
    const seen: { name: string; visible: boolean }[] = []
    // What operators need comes before the form.
    for (let i = 0; i < 80 && (await focused()).name !== 'column-content'; i++) {
      await press('Tab')
      seen.push((await focused()) as (typeof seen)[number])
    }
    expect(seen.at(-1)).toMatchObject({ name: 'column-content', visible: true })
    await page.keyboard.type('by keyboard')
    await press('Enter')
    await page.locator('.sent li[data-state=saved]', { hasText: 'by keyboard' }).waitFor()
    while (seen.at(-1)?.name !== 'Saved contents' && seen.length < 120) {
      seen.push((await focused()) as (typeof seen)[number])
      await press('Tab')
    }
    const names = seen.map(({ name }) => name)
    for (const name of ['5 min', 'Point in time', 'Save', 'What you saved', 'Saved contents'])
      expect(names).toContain(name)
    expect(seen.filter(({ visible }) => !visible)).toEqual([])
    await page.locator('.rows li button').first().focus()
    await press('Enter')
    await page.locator('dialog').waitFor()
    await press('Escape')
    await page.locator('dialog').waitFor({ state: 'detached' })
    expect(await page.evaluate(() => document.activeElement?.closest('.rows') !== null)).toBe(true)
    window.check()
    await window.close()
  })

  test.each([
    ['light', { colorScheme: 'light' as const }],
    ['dark', { colorScheme: 'dark' as const }],
    ['a phone', { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true }],
  ])('is accessible and fits the viewport: %s', async (_, options) => {
    const window = await open(options)
    const { page } = window
    await page.locator('.rows li').first().waitFor()
    await page.fill('#column-content', 'a'.repeat(300))
    await page.press('#column-content', 'Enter')
    await page.locator('.sent li[data-state=saved]').waitFor()
    const beyond = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    )
    expect(beyond).toBe(0)
    expect(await violationsOf(page)).toEqual([])
    // What is wrong comes before everything else, for the eye and for a screen reader.
    const sections = await page
      .locator('.status, .panel')
      .evaluateAll((all) => all.map((one) => one.querySelector('h2')?.firstChild?.textContent?.trim() ?? one.ariaLabel))
    const order = ['Status', 'Queue', 'Dead letters', 'Workers', 'Save', 'Live feed']
    expect(sections.filter((name) => order.includes(name!))).toEqual(order)
    if ('isMobile' in options) {
      const tops = await page
        .locator('.status, .panel')
        .evaluateAll((all) => all.map((one) => one.getBoundingClientRect().top))
      expect(tops).toEqual(tops.toSorted((a, b) => a - b))
    }
    window.check()
    await window.close()
  })
})

/** How many points of the chart have a color other than grey, in its left part. */
function colored(page: Page, part = 1): Promise<number> {
  return page.locator('[data-chart=flow] canvas').evaluate((canvas: HTMLCanvasElement, part) => {
    const width = Math.floor(canvas.width * part)
    const { data } = canvas.getContext('2d')!.getImageData(0, 0, width, canvas.height)
    let points = 0
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b, a] = data.slice(i, i + 4) as unknown as [number, number, number, number]
      if (a > 100 && Math.max(r, g, b) - Math.min(r, g, b) > 60) points += 1
    }
    return points
  }, part)
}
