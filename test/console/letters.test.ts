/** The dead letters in the console, in a real browser, on both set-ups, with 10,000 of them: list, filter, look-up, retry, discard, edit. */
import { randomUUID } from 'node:crypto'
import axe from 'axe-core'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { SqliteQueue } from '../../src/queue/sqlite.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { boot, type SetUp, type Spillway, setUps } from '../harness/boot.ts'
import { launchBrowser } from '../harness/browser.ts'
import { contentMessage, digestOfContent } from '../harness/contents.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { putRows, removeRow } from '../harness/rows.ts'
import { testSqlite } from '../harness/sqlite.ts'
import { openWindow } from './window.ts'

const all = 10_000
const first = Date.UTC(2026, 0, 1, 12)
/** Of the newest ones, which are listed first. */
const large = 100
const kinds = [
  { code: 'CRASHED', message: 'The worker crashed with this message alone.', every: 100 },
  { code: 'GAVE_UP', message: 'An unknown error, for 60 s.', every: 10 },
  { code: 'REJECTED', message: "The row violates the constraint 'polite' of the table.", every: 1 },
] as const
const kindOf = (n: number) => kinds.find(({ every }) => n % every === 0)!

/** Of the dead letters by number, the oldest first. */
const ids: string[] = Array.from({ length: all }, () => randomUUID())
const contentOf = (n: number) => `content ${n}${n >= all - large ? ` ${'x'.repeat(60_000)}` : ''}`

async function fill(queue: Queue): Promise<void> {
  const consumer = queue.consumer('w')
  for (let from = 0; from < all; from += 500) {
    const numbers = Array.from({ length: 500 }, (_, i) => from + i)
    const items = numbers.map((n) => {
      const content = contentOf(n)
      return { id: ids[n]!, digest: digestOfContent(content), at: first, body: contentMessage(ids[n]!, content, first) }
    })
    await queue.enqueue([items])
    for (let left = 500; left > 0; ) {
      const entries = await consumer.receive({ rows: 500, bytes: 64_000_000 }, 1_000)
      await consumer.deadLetter(
        entries.map((entry, i) => {
          const n = from + 500 - left + i
          const { code, message } = kindOf(n)
          return { entry, failure: { code, message, attempts: 3, failedAt: new Date(first + n * 1_000) } }
        }),
      )
      left -= entries.length
    }
  }
}

/** A queue of the set-up with the dead letters in it, and its address. */
const filled: Record<SetUp, () => Promise<{ url: string; clean: () => Promise<unknown> }>> = {
  async embedded() {
    const made = await testSqlite()
    const file = await made.file()
    const queue = new SqliteQueue(file.connect())
    await fill(queue)
    await queue.close()
    await file.close()
    return { url: `file:${made.path}`, clean: made.cleanup }
  },
  async 'redis + mariadb'() {
    const url = freshRedisUrl()
    const queue = new RedisQueue(parseRedisUrl(url), { capacity: 100_000, log: quiet() })
    await queue.connection.whenReady(5_000)
    await fill(queue)
    await queue.close()
    return { url, clean: async () => {} }
  },
}

// Each test goes through many states.
vi.setConfig({ testTimeout: 120_000 })

let browser: Browser
beforeAll(async () => {
  browser = await launchBrowser()
})
afterAll(() => browser?.close())

describe.each(setUps)('the console (%s) with 10,000 dead letters', (setUp) => {
  let system: Spillway
  let clean: (() => Promise<unknown>) | undefined
  beforeAll(async () => {
    const queue = await filled[setUp]()
    clean = queue.clean
    system = await boot(setUp, { env: { QUEUE_URL: queue.url }, workers: 1 })
  })
  afterAll(async () => {
    await system?.stop()
    await clean?.()
  })
  const open = (hash = '', options = {}) => openWindow(browser, system.url + hash, options)

  const total = (page: Page, n: number) => page.locator(`[data-total="${n}"]`).waitFor()
  const lines = (page: Page) => page.locator('.letters li')
  const codes = (page: Page) => page.locator('.codes button').allInnerTexts()
  const run = (page: Page, state: string) => page.locator(`[data-run=${state}]`)
  const queue = async () => (await system.client.graphql('{ queue { depth deadLetters } }')).data.queue
  const emptied = () => holds(async () => expect((await queue()).depth).toBe(0), { timeoutMs: 30_000 })

  // What the browser does with the answers is the same on each.
  if (setUp === setUps[0]) {
    test('lists, filters and counts them in bounded memory, and its address reproduces the filter', async () => {
      const window = await open()
      const { page } = window
      await total(page, all)
      expect(await codes(page)).toEqual(['REJECTED 9,000', 'GAVE_UP 900', 'CRASHED 100'])
      expect(await page.locator('.badge').textContent()).toBe('10,000')
      expect(await lines(page).first().textContent()).toContain(kindOf(all - 1).message)
      for (let n = 100; n <= 300; n += 50) {
        await page.getByRole('button', { name: 'Show more' }).click()
        await lines(page)
          .nth(Math.min(n, 200) - 1)
          .waitFor()
        await page.locator('.more[aria-disabled=false]').last().waitFor()
      }
      const oldest = await lines(page).last().locator('.id').getAttribute('title')
      expect(oldest).toBe(ids[all - 300])
      expect(await lines(page).count()).toBe(200)
      await page.getByRole('button', { name: 'Show newer' }).click()
      await holds(async () =>
        expect(await lines(page).first().locator('.id').getAttribute('title')).toBe(ids[all - 51]),
      )
      expect(await lines(page).count()).toBe(200)
      // 100 of those that were read have inputs of 60 KB.
      expect(await heapOf(page)).toBeLessThan(150_000_000)

      await page.locator('.codes button', { hasText: 'CRASHED' }).click()
      await total(page, 100)
      await page.getByLabel('Failed since').fill('2026-01-01T14:00:00')
      await page.getByLabel('and before').fill('2026-01-01T14:10:00')
      await page.getByLabel('Part of the reason').fill('MESSAGE alone')
      await page.getByLabel('Part of the reason').press('Enter')
      await total(page, 6)
      await holds(async () => expect(await lines(page).count()).toBe(6))
      await accessible(page)
      const link = new URL(page.url())
      // A jump within the page is no other filter.
      const jumped = page.evaluate(() =>
        new Promise((resolve) => addEventListener('hashchange', resolve)).then(() => {}),
      )
      await page.locator('.to-letters').click()
      await jumped
      expect(await page.getByLabel('Part of the reason').inputValue()).toBe('MESSAGE alone')
      expect(await lines(page).count()).toBe(6)
      const other = await open(link.hash)
      await total(other.page, 6)
      expect(await lines(other.page).allInnerTexts()).toEqual(await lines(page).allInnerTexts())
      expect(await other.page.getByLabel('Failed since').inputValue()).toBe('2026-01-01T14:00')
      await other.page.getByRole('button', { name: 'Clear the filter' }).click()
      await total(other.page, all)
      expect(new URL(other.page.url()).hash).toBe('')
      await other.page.goBack()
      await total(other.page, 6)
      await other.page.getByLabel('and before').fill('2026-01-01T13:00:00')
      await other.page.getByText('failedAfter must be before failedBefore').first().waitFor()
      for (const one of [window, other]) {
        one.check(/status of 400/)
        await one.close()
      }
    })

    test('opens one whole, and says where an id stands, from a link as well', async () => {
      const window = await open('', { permissions: ['clipboard-read', 'clipboard-write'] })
      const { page } = window
      const dialog = page.locator('dialog')
      const clipboard = () => page.evaluate(() => navigator.clipboard.readText())
      const n = all - 1
      await lines(page).first().getByRole('button', { name: 'Copy' }).click()
      await lines(page).first().getByText('Copied').waitFor()
      expect(await clipboard()).toBe(ids[n])
      await lines(page).first().locator('.open').click()
      await dialog.locator('.letter', { hasText: kindOf(n).message }).waitFor()
      await dialog.locator('[data-status=FAILED]').waitFor()
      await dialog.getByText('The database has none.').waitFor()
      for (const text of ['REJECTED', '3 attempts', 'Jan 1, 2026']) await dialog.getByText(text).first().waitFor()
      expect(await dialog.locator('pre').textContent()).toBe(JSON.stringify({ content: contentOf(n) }, null, 2))
      await dialog.getByRole('button', { name: 'Copy JSON' }).click()
      await dialog.getByText('Copied').waitFor()
      expect(JSON.parse(await clipboard())).toEqual({ content: contentOf(n) })
      await dialog.getByRole('button', { name: 'Copy link' }).click()
      await holds(async () => expect(await clipboard()).toBe(`${system.url}/#find=${ids[n]}`))
      await accessible(page)
      // Another link, while the dialog of this one is open.
      await page.goto(`${system.url}/#find=${ids[n - 1]}`)
      await dialog.getByRole('heading', { name: `Id ${ids[n - 1]}` }).waitFor()
      await dialog.locator('.letter', { hasText: kindOf(n - 1).message }).waitFor()
      expect(new URL(page.url()).hash).toBe(`#find=${ids[n - 1]}`)
      await page.keyboard.press('Escape')
      await dialog.waitFor({ state: 'detached' })
      expect(new URL(page.url()).hash).toBe('')

      const look = async (id: string) => {
        await page.fill('#find-input', id)
        await page.press('#find-input', 'Enter')
      }
      await look(randomUUID())
      await dialog.getByText('This id is not known here.').waitFor()
      await page.keyboard.press('Escape')
      await look(' what is an id? ')
      await dialog.getByText('An id has 32 hexadecimal digits').waitFor()
      await page.keyboard.press('Escape')
      const { body } = await system.client.saveAndWait('to be found')
      const other = await open(`#find=${body.data.save.saveId}`)
      await other.page.locator('dialog [data-status=SAVED]').waitFor()
      expect(JSON.parse((await other.page.locator('dialog pre').textContent())!)).toMatchObject({
        content: 'to be found',
      })
      for (const one of [window, other]) {
        one.check()
        await one.close()
      }
    })
  }

  test('edits one and retries it, and keeps the text where the server refuses it', async () => {
    const id = ids[all - 2]!
    const window = await open(`#find=${id}`)
    const { page } = window
    await page.getByRole('button', { name: 'Edit and retry…' }).click()
    const input = page.getByLabel('Input', { exact: true })
    const send = page.getByRole('button', { name: 'Save and retry' })
    const problem = page.locator('#edit-problem')
    await input.fill('{ "content": ')
    await send.click()
    await problem.getByText('This is not JSON.').waitFor()
    await input.fill('{ "content": 5 }')
    await send.click()
    await problem.getByText('content of Content must be').waitFor()
    expect(
      await input.evaluate((field: HTMLTextAreaElement) => field.value.slice(field.selectionStart, field.selectionEnd)),
    ).toBe('"content"')
    if (setUp === setUps[0]) await accessible(page)
    // What was typed outlives an Escape.
    await page.keyboard.press('Escape')
    await page.getByRole('button', { name: 'Edit and retry…' }).click()
    expect(await input.inputValue()).toBe('{ "content": 5 }')
    await input.fill('{ "content": "edited" }')
    await send.click()
    await run(page, 'done').getByText('The edited save is back in the queue').waitFor()
    await page.locator('dialog [data-status=SAVED]').waitFor()
    await page.locator('dialog .letter').waitFor({ state: 'detached' })
    await holds(async () =>
      expect(JSON.parse((await page.locator('dialog pre').textContent())!)).toMatchObject({ id, content: 'edited' }),
    )
    window.check(/status of 400/)
    await window.close()
  })

  test('retries and discards what is selected, or all that match, after a dry run and a question', async () => {
    const window = await open()
    const { page } = window
    const button = (name: string | RegExp) => page.getByRole('button', { name })
    const before = (await queue()).deadLetters
    const places = async () => {
      const scrolled = await page.evaluate(() => document.documentElement.scrollTop)
      const boxes = [(await button(/^Retry /).boundingBox())!, (await button(/^Discard /).boundingBox())!]
      return boxes.map(({ x, y }) => ({ x, inWindow: y, inPage: y + scrolled }))
    }
    const stand = async (before: Awaited<ReturnType<typeof places>>) => {
      for (const [i, now] of (await places()).entries()) {
        const moved = (of: keyof typeof now) => Math.abs(now[of] - before[i]![of])
        // A line of text may be a part of a pixel higher than another.
        expect(moved('x')).toBeLessThan(2)
        // A problem that shows or goes at the top of the page moves them in the page, a list that gets shorter in the window.
        expect(Math.min(moved('inWindow'), moved('inPage'))).toBeLessThan(2)
      }
    }

    await total(page, before)
    await page.locator('.codes button', { hasText: 'GAVE_UP' }).click()
    await total(page, 900)
    // The page scrolls to a question that is out of sight.
    await button('Retry all that match…').evaluate((one) => one.scrollIntoView({ block: 'center' }))
    const stood = await places()
    await button('Retry all that match…').click()
    await run(page, 'asking').getByText('Retry 900 dead letters with the code GAVE_UP?').waitFor()
    await stand(stood)
    expect((await queue()).deadLetters).toBe(before)
    await button('Cancel').click()
    await button('Retry all that match…').click()
    await page.locator('.run .primary').click()
    await run(page, 'done').getByText('900 dead letters are back in the queue.').waitFor()
    await stand(stood)
    await emptied()
    expect((await queue()).deadLetters).toBe(before - 900)
    await page.getByText('None that match.').waitFor()
    // What was done stays until it is dismissed.
    await run(page, 'done').getByRole('button', { name: 'Dismiss' }).click()
    await run(page, 'done').waitFor({ state: 'detached' })

    // One more that failed, while the question stands.
    await button('Clear the filter').click()
    await lines(page).first().waitFor()
    const late = randomUUID()
    await putRows(system.env.DATABASE_URL!, [late], 'in the way')
    await button('Discard all…').click()
    await run(page, 'asking')
      .getByText(`Delete ${count(before - 900)} dead letters permanently?`)
      .waitFor()
    await holds(async () => expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('Keep'))
    if (setUp === setUps[0]) await accessible(page)
    expect((await system.client.saveAndWait('late', 20_000, late)).body.data.save.status).toBe('FAILED')
    await button('Delete permanently').click()
    await run(page, 'asking')
      .getByText(`1 more dead letter came meanwhile. Delete ${count(before - 899)}`)
      .waitFor()
    expect((await queue()).deadLetters).toBe(before - 899)
    await page.keyboard.press('Enter')
    await run(page, 'asking').waitFor({ state: 'detached' })

    await button('Refresh').click()
    await lines(page).first().getByText('ID_CONFLICT').waitFor()
    await removeRow(system.env.DATABASE_URL!, late)
    await page.getByLabel(`Select ${late}`).check()
    await button('Retry 1 selected…').click()
    await run(page, 'asking').getByText(`Retry 1 dead letter of ${late}?`).waitFor()
    await page.locator('.run .primary').click()
    await run(page, 'done').getByText('1 dead letter is back in the queue.').waitFor()
    await page.locator('.rows li', { hasText: 'late' }).waitFor()

    await page.getByLabel(`Select ${late}`).waitFor({ state: 'detached' })
    await page.getByLabel('Select all shown').check()
    await button('Discard 50 selected…').click()
    await button('Delete permanently').click()
    await run(page, 'done').getByText('50 dead letters deleted.').waitFor()
    await total(page, before - 950)
    await page.locator('.codes button', { hasText: 'REJECTED' }).click()
    await total(page, before - 1_050)
    await button('Discard all that match…').click()
    await button('Delete permanently').click()
    await run(page, 'done')
      .getByText(`${count(before - 1_050)} dead letters deleted.`)
      .waitFor()
    expect((await queue()).deadLetters).toBe(100)
    await holds(async () => expect(await codes(page)).toEqual(['CRASHED 100', 'REJECTED 0']))

    // The queue goes away during a run: what is wrong is shown where it was asked for, and stays.
    await button('Clear the filter').click()
    await total(page, 100)
    await button('Retry all…').click()
    await run(page, 'asking').waitFor()
    await system.kill(system.api)
    await page.locator('.run .primary').click()
    await run(page, 'failed').getByRole('alert').getByText('The server did not answer.').waitFor()
    window.check(/net::ERR_/)
    await window.close()
  })
})

const count = (n: number) => n.toLocaleString('en')

/** After a garbage collection. */
async function heapOf(page: Page): Promise<number> {
  const session = await page.context().newCDPSession(page)
  await session.send('HeapProfiler.collectGarbage')
  await session.send('Performance.enable')
  const { metrics } = await session.send('Performance.getMetrics')
  return metrics.find(({ name }) => name === 'JSHeapUsedSize')!.value
}

/** As it is now: light, and dark on a phone. */
async function accessible(page: Page): Promise<void> {
  const size = page.viewportSize()!
  await page.evaluate(axe.source)
  for (const [colorScheme, width] of [
    ['light', size.width],
    ['dark', 360],
  ] as const) {
    await page.emulateMedia({ colorScheme })
    await page.setViewportSize({ width, height: size.height })
    const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run())
    expect(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([])
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width)
  }
  await page.emulateMedia({ colorScheme: 'light' })
  await page.setViewportSize(size)
}
