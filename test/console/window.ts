/** A browser window on the console, which records everything that the page must never do. */
import axe from 'axe-core'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { expect } from 'vitest'

export interface ConsoleWindow {
  page: Page
  /** Logged errors, violations of the Content-Security-Policy, requests to other servers. */
  problems: string[]
  /** Fails if there are problems that do not match `unless`. */
  check(unless?: RegExp): void
  close(): Promise<void>
}

/** Opens a window in a context of its own, with its own cookies and session. */
export async function openWindow(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<ConsoleWindow> {
  // Without a graphics card, a page that moves all the time takes a good part of a core.
  const quiet = { viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' } as const
  const context = await browser.newContext({ ...quiet, ...options })
  // Shorter than the test's own timeout, so that the error names the locator.
  context.setDefaultTimeout(30_000)
  const page = await context.newPage()
  const problems: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') problems.push(message.text())
  })
  page.on('pageerror', (error) => problems.push(String(error)))
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin) problems.push(`a request to ${request.url()}`)
  })
  await page.exposeFunction('reportViolation', (what: string) => problems.push(`CSP: ${what}`))
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => {
      const { violatedDirective, blockedURI, sourceFile } = event
      ;(globalThis as unknown as { reportViolation(what: string): void }).reportViolation(
        `${violatedDirective} ${blockedURI} ${sourceFile}`,
      )
    })
  })
  await page.goto(url)
  await page.locator('.connection.live').waitFor()
  return {
    page,
    problems,
    check: (unless) => expect(problems.filter((problem) => !unless?.test(problem))).toEqual([]),
    close: () => context.close(),
  }
}

/** A number that the page shows. */
export async function numberOf(page: Page, name: string): Promise<number> {
  const text = await page.locator(`[data-number="${name}"]`).textContent()
  return Number(/[\d.,]+/.exec(text ?? '')?.[0].replaceAll(',', '') ?? Number.NaN)
}

/** Starts a spike of so many rows, such as '10,000', and says what the console asked before. */
export async function startSpike(page: Page, size: string): Promise<string | null> {
  if (!(await page.locator('.spike').getAttribute('open'))) await page.locator('.spike summary').click()
  await page.getByRole('button', { name: `Spike of ${size} rows`, exact: true }).click()
  const asked = await page.locator('dialog').textContent()
  await page.getByRole('button', { name: `Write ${size} rows`, exact: true }).click()
  return asked
}

/** The state of the scrolling list: the rows in the document, and the height of all rows. */
export const rowsOf = (page: Page) =>
  page
    .locator('.rows')
    .evaluate((box) => ({ inDocument: box.querySelectorAll('li').length, scrollHeight: box.scrollHeight }))

/** What axe finds in the page as it is. */
export async function violationsOf(page: Page): Promise<unknown[]> {
  await page.evaluate(axe.source)
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run())
  return violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])
}
