/**
 * The console, as `npm ci` built it into web/dist: a page at `/`, and the files it names, with a hash in each name. Invariant: only files
 * that were there when it was read are ever sent, and a browser runs nothing on the page but them.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { extname } from 'node:path'
import { gzipSync } from 'node:zlib'
import { wantsPage } from '../http/accept.ts'
import { type Call, type Route, sendText } from '../http/http.ts'
import { HttpError } from '../http/http-error.ts'

const dist = new URL('../../web/dist/', import.meta.url)
/** As in web/build.ts. */
const base = '/console/assets/'

const types: Record<string, string> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/** Of every HTML page: what it may load, by a Content-Security-Policy, and that no page of another site may frame or read it. */
export function pageHeaders(policy: readonly string[]): Record<string, string> {
  const common = ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
  return {
    'content-security-policy': [...common, ...policy].join('; '),
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
  }
}

const securityHeaders = pageHeaders([
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
])

interface File {
  type: string
  body: Buffer
  zipped: Buffer
  etag: string
}

export class Console {
  readonly #dist: URL
  #page: File | undefined
  readonly #assets = new Map<string, File>()

  /** `folder`: where it was built, with a slash at the end. */
  constructor(folder = dist) {
    this.#dist = folder
  }

  /** The route, where the request is one for the console: a browser at `/`, or a file of it. */
  route(path: string, request: IncomingMessage): Route | undefined {
    if (path.startsWith(base)) return { scope: 'open', GET: (call) => this.#sendAsset(call, path.slice(base.length)) }
    if (path === '/' && request.method !== 'POST' && wantsPage(request.headers.accept)) {
      return { scope: 'open', GET: (call) => this.#sendPage(call) }
    }
    return undefined
  }

  #sendPage(call: Call): void {
    this.#read()
    // The same address is JSON for who asks for it.
    call.response.appendHeader('vary', 'Accept, Accept-Encoding')
    const headers = { ...securityHeaders, 'cache-control': 'no-cache' }
    if (this.#page) send(call, this.#page, headers)
    else
      sendText(call.response, 503, 'text/plain; charset=utf-8', notBuilt, { ...headers, 'cache-control': 'no-store' })
  }

  #sendAsset(call: Call, name: string): void {
    this.#read()
    const file = this.#assets.get(name)
    if (!file) throw new HttpError(404, 'The console has no such file; load the page anew.')
    call.response.appendHeader('vary', 'Accept-Encoding')
    // Another content would have another name.
    send(call, file, { ...securityHeaders, 'cache-control': 'public, max-age=31536000, immutable' })
  }

  /** Once there is something to read, once. */
  #read(): void {
    if (this.#page) return
    try {
      for (const name of readdirSync(new URL('assets/', this.#dist)))
        this.#assets.set(name, read(new URL(`assets/${name}`, this.#dist)))
      this.#page = read(new URL('index.html', this.#dist))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
}

const notBuilt = `The console is not built: its files are missing in web/dist. "npm ci" builds it, and so does "npm run web".
The API does without it: POST /save, GET / with Accept: application/json, and /graphql.
`

function read(url: URL): File {
  const body = readFileSync(url)
  const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`
  return {
    type: types[extname(url.pathname)] ?? 'text/html; charset=utf-8',
    body,
    zipped: gzipSync(body, { level: 9 }),
    etag,
  }
}

function send({ request, response }: Call, file: File, headers: Record<string, string>): void {
  if (request.headers['if-none-match'] === file.etag) {
    response.writeHead(304, { 'x-content-type-options': 'nosniff', ...headers, etag: file.etag }).end()
    return
  }
  const zip = /\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))/i.test(String(request.headers['accept-encoding'] ?? ''))
  sendText(response, 200, file.type, zip ? file.zipped : file.body, {
    ...headers,
    etag: file.etag,
    ...(zip ? { 'content-encoding': 'gzip' } : {}),
  })
}
