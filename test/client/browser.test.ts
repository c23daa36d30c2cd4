/** The client in Chromium: what survives a reload, a closed page and a second tab; storages that fail; clocks that are wrong; React's hooks. */
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { launchBrowser } from '../harness/browser.ts'
import { holds } from '../harness/eventually.ts'
import type { Asked } from './between.ts'
import { bundle } from './bundle.ts'
import { bodiesOf, type Fixture, newId, serveBetween } from './fixture.ts'

let fixture: Fixture
let browser: Browser
let context: BrowserContext
const errors: string[] = []

beforeAll(async () => {
  const started = [serveBetween(), launchBrowser(), bundle('test/client/page.ts')] as const
  const [served, launched, script] = await Promise.all(started)
  fixture = served
  browser = launched
  fixture.between.files.set('/page', {
    type: 'text/html',
    body: '<!doctype html><script type="module" src="/page.js"></script>',
  })
  fixture.between.files.set('/page.js', { type: 'text/javascript', body: script })
})
afterEach(async () => {
  fixture.reset()
  await context?.close()
  expect(errors.splice(0)).toEqual([])
})
afterAll(async () => {
  await browser?.close()
  await fixture?.close()
})

/** A tab; `script` runs before the page's own. */
async function open(script?: string): Promise<Page> {
  const page = await context.newPage()
  page.on('pageerror', (error) => errors.push(String(error)))
  if (script) await page.addInitScript(script)
  await page.goto(`${fixture.between.url}/page`)
  await page.waitForFunction('globalThis.spillway')
  return page
}

type Storage = 'localStorageOutbox' | 'indexedDbOutbox'
const storages: Storage[] = ['localStorageOutbox', 'indexedDbOutbox']

/** Makes a client in a tab; `client` in later scripts. */
const connect = (page: Page, storage: Storage) =>
  page.evaluate(
    `globalThis.client = spillway.createClient(location.origin, { storage: spillway.${storage}() }); undefined`,
  )

const save = (page: Page, postId: string, ...bodies: string[]) =>
  page.evaluate(
    `for (const body of ${JSON.stringify(bodies)}) client.comment.save({ postId: '${postId}', body }).catch(() => {})\nundefined`,
  )

const outboxOf = (page: Page) =>
  page.evaluate('client.$outbox.getSnapshot()') as Promise<{ waiting: number; state: string; storage: string }>

const kept = (page: Page, storage: Storage) =>
  page.evaluate(`(async () => (await spillway.${storage}().all()).length)()`) as Promise<number>

const isSave = ({ isSave }: Asked) => isSave
/** How often each body was sent. */
function sent(): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { body } of fixture.between.asked.filter(isSave))
    for (const { body: text } of JSON.parse(body).variables.inputs) counts[text] = (counts[text] ?? 0) + 1
  return counts
}
const down = () => {
  fixture.between.instead = () => 'cut'
}
const up = () => {
  fixture.between.instead = undefined
  fixture.between.asked.length = 0
}

test.each(storages)(
  '%s survives a reload and a page that is closed while it sends; each save is one row',
  async (storage) => {
    context = await browser.newContext()
    const postId = newId()
    const first = await open()
    down()
    await connect(first, storage)
    await save(first, postId, 'a', 'b')
    await holds(async () => expect(await kept(first, storage)).toBe(2))
    await first.reload()
    await first.waitForFunction('globalThis.spillway')
    // The server gets them, and the page does not get the answer.
    fixture.between.instead = (asked) => (isSave(asked) ? 'lose' : undefined)
    await connect(first, storage)
    await holds(async () => expect(await bodiesOf(fixture, postId)).toEqual(['a', 'b']))
    fixture.between.instead = (asked) => (isSave(asked) ? 'hang' : undefined)
    await save(first, postId, 'c')
    await holds(async () => expect(await kept(first, storage)).toBe(3))
    await first.close()
    up()
    const second = await open()
    await connect(second, storage)
    await holds(async () => expect(await kept(second, storage)).toBe(0))
    await holds(async () => expect(await bodiesOf(fixture, postId)).toEqual(['a', 'b', 'c']))
    expect(sent()).toEqual({ a: 1, b: 1, c: 1 })
  },
)

test.each(storages)(
  'of two tabs with one %s each sends its own saves, and takes over those of a tab that is closed',
  async (storage) => {
    context = await browser.newContext()
    const postId = newId()
    const [first, second] = [await open(), await open()]
    down()
    await connect(first, storage)
    await save(first, postId, 'a1', 'a2', 'a3')
    await holds(async () => expect(await kept(first, storage)).toBe(3))
    await connect(second, storage)
    await save(second, postId, 'b1', 'b2')
    await holds(async () => expect(await kept(second, storage)).toBe(5))
    expect(await outboxOf(first)).toMatchObject({ waiting: 3 })
    expect(await outboxOf(second)).toMatchObject({ waiting: 2 })
    await first.close()
    await holds(async () => expect(await outboxOf(second)).toMatchObject({ waiting: 5 }))
    up()
    await second.evaluate('client.$outbox.retry()')
    await holds(async () => expect(await outboxOf(second)).toMatchObject({ waiting: 0, state: 'idle', storage: 'ok' }))
    await holds(async () => expect(await bodiesOf(fixture, postId)).toEqual(['a1', 'a2', 'a3', 'b1', 'b2']))
    expect(sent()).toEqual({ a1: 1, a2: 1, a3: 1, b1: 1, b2: 1 })
    expect(await kept(second, storage)).toBe(0)
  },
)

test('a localStorage that is full, denied or cleared leaves the saves in memory, and the outbox says so', async () => {
  context = await browser.newContext()
  const postId = newId()
  const full = await open()
  await full.evaluate(`localStorage.setItem('other', 'x'.repeat(5 * 1024 * 1024 - 200))`)
  const denied = await open(
    `Object.defineProperty(globalThis, 'localStorage', { get() { throw new DOMException('no', 'SecurityError') } })`,
  )
  down()
  for (const [name, page] of Object.entries({ full, denied })) {
    await connect(page, 'localStorageOutbox')
    await save(page, postId, `${name} ${'x'.repeat(500)}`)
    await holds(async () => expect(await outboxOf(page)).toMatchObject({ waiting: 1, storage: 'unavailable' }))
  }
  await full.evaluate('localStorage.clear()')
  const cleared = await open()
  await connect(cleared, 'localStorageOutbox')
  await save(cleared, postId, 'cleared')
  await holds(async () => expect(await kept(cleared, 'localStorageOutbox')).toBe(1))
  expect(await outboxOf(cleared)).toMatchObject({ storage: 'ok' })
  await cleared.evaluate('localStorage.clear()')
  await save(cleared, postId, 'after')
  await holds(async () => expect(await outboxOf(cleared)).toMatchObject({ waiting: 2, storage: 'unavailable' }))
  up()
  for (const page of [full, denied, cleared]) {
    await page.evaluate('client.$outbox.retry()')
    await holds(async () => expect(await outboxOf(page)).toMatchObject({ waiting: 0, state: 'idle' }))
  }
  await holds(async () => expect(await bodiesOf(fixture, postId)).toHaveLength(4))
  // The denied one knows nothing better.
  expect((await outboxOf(cleared)).storage).toBe('ok')
})

test('an outbox has no save of another one whose name begins alike', async () => {
  context = await browser.newContext()
  const page = await open()
  down()
  for (const storage of storages) {
    await page.evaluate(
      `spillway.createClient(location.origin, { storage: spillway.${storage}('ann@x.com') }).comment.save({}); undefined`,
    )
    const count = (name: string) => page.evaluate(`(async () => (await spillway.${storage}('${name}').all()).length)()`)
    await holds(async () => expect(await count('ann@x.com')).toBe(1))
    for (const name of ['ann@x', 'ann@x.', 'outbox']) expect(await count(name), name).toBe(0)
  }
})

test('an IndexedDB that is deleted leaves the saves in memory, and keeps the next ones', async () => {
  context = await browser.newContext()
  const postId = newId()
  const page = await open()
  down()
  await connect(page, 'indexedDbOutbox')
  await save(page, postId, 'a')
  await holds(async () => expect(await kept(page, 'indexedDbOutbox')).toBe(1))
  await page.evaluate(
    `new Promise((resolve) => { indexedDB.deleteDatabase('spillway.outbox').onsuccess = () => resolve() })`,
  )
  await save(page, postId, 'b')
  await holds(async () => expect(await outboxOf(page)).toMatchObject({ waiting: 2, storage: 'unavailable' }))
  await save(page, postId, 'c')
  await holds(async () => expect(await kept(page, 'indexedDbOutbox')).toBe(1))
  up()
  await page.evaluate('client.$outbox.retry()')
  await holds(async () => expect(await outboxOf(page)).toMatchObject({ waiting: 0, storage: 'ok' }))
  await holds(async () => expect(await bodiesOf(fixture, postId)).toEqual(['a', 'b', 'c']))
})

test('a clock that is years off, or stands still, costs neither rows nor their order', async () => {
  context = await browser.newContext()
  for (const now of ['-1e12', '4e12']) {
    const postId = newId()
    const page = await open(`Date.now = () => ${now}`)
    await connect(page, 'localStorageOutbox')
    await save(page, postId, 'a', 'b', 'c')
    await page.evaluate(
      `globalThis.follow = client.comment.follow({ by: { postId: '${postId}' } }); follow.subscribe(() => {})`,
    )
    await holds(async () => expect(await page.evaluate('follow.getSnapshot().rows.length')).toBe(3))
    await page.reload()
    await page.waitForFunction('globalThis.spillway')
    await connect(page, 'localStorageOutbox')
    const bodies = await page.evaluate(`(async () => {
      const bodies = []
      for await (const { body } of client.comment.follow({ by: { postId: '${postId}' } })) if (bodies.push(body) === 3) return bodies
    })()`)
    expect(bodies).toEqual(['a', 'b', 'c'])
    await page.close()
  }
})

test('a batch and a page pass a network that takes longer for each of them than a client waits for an answer', async () => {
  context = await browser.newContext()
  // The page's time is 20 times as fast: 15 s are 750 ms.
  const page = await open(`
    const { setTimeout, AbortController } = globalThis
    globalThis.setTimeout = (call, ms) => setTimeout(call, ms / 20)
    AbortSignal.timeout = (ms) => {
      const end = new AbortController()
      setTimeout(() => end.abort(), ms / 20)
      return end.signal
    }`)
  await connect(page, 'localStorageOutbox')
  // 20 saves of 13,000 characters are one batch. They take 1.2 s each way.
  fixture.between.pace = 217
  await page.evaluate(
    `for (let i = 0; i < 20; i += 1) client.content.save({ content: \`\${i} \${'x'.repeat(13_000)}\` })\nundefined`,
  )
  await holds(async () => expect(await outboxOf(page)).toMatchObject({ waiting: 0 }))
  await page.evaluate('globalThis.follow = client.content.follow({ first: 20 }); follow.subscribe(() => {}); undefined')
  await holds(async () => expect(await page.evaluate('follow.getSnapshot().rows.length')).toBe(20))
})

test('useFollow and useSave show rows and states in React, in strict mode, through a lost connection', async () => {
  context = await browser.newContext()
  const postId = newId()
  const page = await open()
  await page.evaluate(`spillway.show('${postId}'); undefined`)
  await page.locator('#state', { hasText: 'live' }).waitFor()
  for (let i = 1; i <= 3; i += 1) {
    await page.locator('button').click()
    await page
      .locator('li')
      .nth(i - 1)
      .waitFor()
    await page.locator('#last', { hasText: 'saved' }).waitFor()
    fixture.between.cut()
  }
  await page.locator('#state', { hasText: 'live' }).waitFor()
  expect(await page.locator('li').allTextContents()).toEqual(['comment 3', 'comment 2', 'comment 1'])
})

test('useFollow of a value that is undefined shows a problem, and not the rows of all values', async () => {
  context = await browser.newContext()
  const page = await open()
  await page.evaluate(`spillway.show('${newId()}').comment.save({ postId: '${newId()}', body: 'of another' }).saved()`)
  await page.reload()
  await page.waitForFunction('globalThis.spillway')
  await page.evaluate('spillway.show(undefined); undefined')
  await page.locator('#state', { hasText: 'refused' }).waitFor()
  expect(await page.locator('li').count()).toBe(0)
})
