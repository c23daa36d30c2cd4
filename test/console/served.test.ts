/** How the server serves the console: to which clients, with which headers, how large; and what it sends if the console is not built. */
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Bytes } from '../../src/app/bytes.ts'
import { RateLimit } from '../../src/http/client-limits.ts'
import { listen } from '../../src/http/listen.ts'
import { openAuth } from '../../src/http/open-auth.ts'
import { OriginCheck } from '../../src/http/origin-check.ts'
import { Console } from '../../src/server/console.ts'
import { generate } from '../../web/generate.ts'
import { boot, type Spillway } from '../harness/boot.ts'
import { quiet } from '../harness/quiet.ts'

/** The Accept header of Chromium when a user opens a URL. */
const browserAccepts = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8'

let system: Spillway
beforeAll(async () => {
  system = await boot('embedded')
})
afterAll(() => system?.stop())

const get = (path: string, headers: Record<string, string> = {}) => fetch(system.url + path, { headers })
const page = async () => await (await get('/', { accept: browserAccepts })).text()
const assets = async () => [...(await page()).matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path!)

test.each([
  ['curl', '*/*', 'json'],
  ['nothing', '', 'json'],
  ['JSON', 'application/json', 'json'],
  ['JSON, or else HTML', 'application/json, text/html', 'json'],
  ['anything but HTML', 'text/html;q=0, */*', 'json'],
  ['HTML at less than JSON', 'text/html;q=0.5, application/json', 'json'],
  ['HTML at less than anything', 'text/html;q=0.5, */*', 'json'],
  ['JSON at less than HTML', 'application/json;q=0.5, TEXT/HTML', 'html'],
  ['a browser', browserAccepts, 'html'],
])('GET / for %s', async (_, accept, kind) => {
  const response = await get('/', { accept })
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toContain(kind)
  expect(response.headers.get('vary')).toContain('Accept')
  expect(await response.text()).toContain(kind === 'json' ? '{"results":[]' : '<title>Spillway</title>')
})

test('the console runs only its own files, and in no frame', async () => {
  const { headers } = await get('/', { accept: browserAccepts })
  const policy = headers.get('content-security-policy')!
  expect(policy).toContain("default-src 'none'")
  expect(policy).toContain("script-src 'self'")
  expect(policy).toContain("frame-ancestors 'none'")
  expect(policy).not.toMatch(/unsafe|\*|https?:|data:/)
  expect(headers.get('x-content-type-options')).toBe('nosniff')
  expect(headers.get('referrer-policy')).toBe('no-referrer')
})

test('the console is revalidated each time, and sent once', async () => {
  const first = await get('/', { accept: browserAccepts })
  expect(first.headers.get('cache-control')).toBe('no-cache')
  const again = await get('/', { accept: browserAccepts, 'if-none-match': first.headers.get('etag')! })
  expect(again.status).toBe(304)
  expect(await again.text()).toBe('')
})

test('the page of the console says whether it offers Spike', async () => {
  expect(await page()).toContain('<div id="console" data-console-spike></div>')
})

test('the files of the console are immutable, and match their integrity', async () => {
  const paths = await assets()
  expect(paths).toHaveLength(3)
  for (const path of paths) {
    expect(path).toMatch(/^\/console\/assets\/[\w.-]+-[\w-]{8}\.(js|css|svg)$/)
    const response = await get(path)
    expect(response.status).toBe(200)
    expect(response.headers.get('cache-control')).toBe('public, max-age=31536000, immutable')
    expect(response.headers.get('content-encoding')).toBe('gzip')
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    const plain = await get(path, { 'accept-encoding': 'gzip;q=0' })
    expect(plain.headers.get('content-encoding')).toBeNull()
    expect(await plain.text()).toBe(await response.text())
  }
})

test('the bundle of the console is under 65 KB, gzipped', async () => {
  let bytes = gzipSync(await page()).length
  for (const path of await assets()) bytes += gzipSync(await (await get(path)).bytes()).length
  expect(bytes).toBeLessThan(65_000)
})

test.each(['/console/assets/none.js', '/console/assets/..%2findex.html', '/console/assets/', '/console/'])(
  'the console serves no other file: %s',
  async (path) => {
    const response = await get(path, { accept: browserAccepts })
    expect(response.status).toBe(404)
    expect(await response.json()).toHaveProperty('errors')
  },
)

test('a server without a built console tells a browser how to build it', async () => {
  const console = new Console({ spike: true, folder: new URL('file:///nowhere/at/all/') })
  const front = {
    paths: '/',
    route: console.route.bind(console),
    upgrade() {},
    auth: await openAuth({}, quiet()),
    rateLimit: new RateLimit(undefined),
  }
  const options = {
    host: '127.0.0.1',
    port: 0,
    maxBodyBytes: 1_000,
    maxConnections: 100,
    bytes: new Bytes(),
    log: quiet(),
  }
  const server = await listen(
    { ...front, originCheck: new OriginCheck({ hosts: [], origins: [], log: quiet() }) },
    options,
  )
  try {
    const response = await fetch(server.url, { headers: { accept: browserAccepts } })
    expect(response.status).toBe(503)
    expect(await response.text()).toContain('"npm ci" builds it')
  } finally {
    await server.close()
  }
})

test('the operations of the console fit the schema, and are typed by it (npm run docs writes the types)', () => {
  const read = (name: string) => readFileSync(name, 'utf8')
  const made = generate(read('schema.graphql'), read('web/operations.graphql'))
  expect(read('web/operations.ts')).toBe(made)
})

test('an operation that does not fit the schema fails npm run docs', () => {
  expect(() => generate('type Query { queue: Int }', 'query Queue { depth }')).toThrow('Cannot query field "depth"')
})
