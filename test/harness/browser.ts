/** A real browser for tests: Debian's Chromium, driven by playwright-core. servers.ts installs it as it does the servers. */
import { type Browser, chromium } from 'playwright-core'
import { findChromium, need } from './binaries.ts'

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
