/** A browser window on the console, that keeps whatever a page of ours must never do. */
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { expect } from 'vitest'

export interface ConsoleWindow {
  page: Page
  /** Errors on the console, violations of the Content-Security-Policy, requests to elsewhere. */
  problems: string[]
  /** Fails if there were any; `unless` are to be expected. */
  check(unless?: RegExp): void
  close(): Promise<void>
}

/** A context of its own each: another cookie jar, another session. */
export async function openWindow(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<ConsoleWindow> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })
  // Below a test's own, so that it says what it waited for.
  context.setDefaultTimeout(15_000)
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

/** A number as the page shows it. */
export async function numberOf(page: Page, name: string): Promise<number> {
  const text = await page.locator(`[data-number="${name}"]`).textContent()
  return Number(/[\d.,]+/.exec(text ?? '')?.[0].replaceAll(',', '') ?? Number.NaN)
}

/** How an element that scrolls stands: rows that are in the document, and how high all of them are. */
export const rowsOf = (page: Page) =>
  page
    .locator('.rows')
    .evaluate((box) => ({ inDocument: box.querySelectorAll('li').length, scrollHeight: box.scrollHeight }))
