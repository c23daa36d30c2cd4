/** A real browser for tests: Debian's Chromium, driven by playwright-core. servers.ts installs it as it does the servers. */
import { type Browser, chromium } from 'playwright-core'
import { find, need } from './binaries.ts'

export const findChromium = () => find('chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome')

/** Nothing of it leaves the machine: no updates, no sync, no QUIC. Close it yourself. */
export function launchBrowser(args: readonly string[] = []): Promise<Browser> {
  return chromium.launch({
    executablePath: need(findChromium(), 'Chromium'),
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...args,
    ],
  })
}
