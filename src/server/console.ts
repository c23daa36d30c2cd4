/**
 * The console, which `npm ci` builds into web/dist: a page at `/`, and its files, with a hash in each name. Invariant: only the files that
 * existed when the folder was read are sent, and a browser runs no other script on the page.
 */
import { readdirSync, readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { extname } from 'node:path'
import { gzipSync } from 'node:zlib'
import { wantsPage } from '../http/accept.ts'
import { HttpError } from '../http/errors.ts'
import { sendTagged, type Tagged, tagged } from '../http/etag.ts'
import { sendText } from '../http/respond.ts'
import type { Call, Route } from '../http/route.ts'

const dist = new URL('../../web/dist/', import.meta.url)
/** As in web/build.ts. */
const base = '/console/assets/'

const types: Record<string, string> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/** The headers of every HTML page: a Content-Security-Policy for what it may load; pages of other sites cannot frame or read it. */
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

interface File extends Tagged {
  zipped: Buffer
}

interface ConsoleOptions {
  /** Whether the page offers the demonstration that writes thousands of rows. */
  spike: boolean
  /** The URL of the built console, with a slash at the end. */
  folder?: URL
}

export class Console {
  readonly #spike: boolean
  readonly #dist: URL
  #page: File | undefined
  readonly #assets = new Map<string, File>()

  constructor({ spike, folder = dist }: ConsoleOptions) {
    this.#spike = spike
    this.#dist = folder
  }

  /** The route of a request for the console: a browser at `/`, or one of its files. Undefined for any other request. */
  route(path: string, request: IncomingMessage): Route | undefined {
    if (path.startsWith(base)) return { scope: 'open', GET: (call) => this.#sendAsset(call, path.slice(base.length)) }
    if (path === '/' && request.method !== 'POST' && wantsPage(request.headers.accept)) {
      return { scope: 'open', GET: (call) => this.#sendPage(call) }
    }
    return undefined
  }

  #sendPage(call: Call): void {
    this.#read()
    // Other clients get JSON at the same path.
    call.response.appendHeader('vary', 'Accept, Accept-Encoding')
    const headers = { ...securityHeaders, 'cache-control': 'no-cache' }
    if (this.#page) send(call, this.#page, headers)
    else
      sendText(call.response, 503, 'text/plain; charset=utf-8', notBuilt, { ...headers, 'cache-control': 'no-store' })
  }

  #sendAsset(call: Call, name: string): void {
    this.#read()
    const file = this.#assets.get(name)
    if (!file) throw new HttpError(404, 'The console has no such file; reload the page.')
    call.response.appendHeader('vary', 'Accept-Encoding')
    // The name contains a hash of the content.
    send(call, file, { ...securityHeaders, 'cache-control': 'public, max-age=31536000, immutable' })
  }

  /** Reads the files, once they exist, into memory. */
  #read(): void {
    if (this.#page) return
    try {
      for (const name of readdirSync(new URL('assets/', this.#dist)))
        this.#assets.set(name, fileOf(name, readFileSync(new URL(`assets/${name}`, this.#dist))))
      const page = readFileSync(new URL('index.html', this.#dist), 'utf8')
      this.#page = fileOf('index.html', Buffer.from(this.#spike ? withSpike(page) : page))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
}

const notBuilt = `The console is not built: its files are missing in web/dist. "npm ci" builds it, and so does "npm run web".
The API works without it: REST, where a client accepts application/json, and /graphql.
`

/** web/spike.ts looks for the attribute: without it, the page has no way to start a spike. */
const withSpike = (page: string) => page.replace('<div id="console"', '$& data-console-spike')

function fileOf(name: string, body: Buffer): File {
  const type = types[extname(name)] ?? 'text/html; charset=utf-8'
  return { ...tagged(type, body), zipped: gzipSync(body, { level: 9 }) }
}

function send(call: Call, file: File, headers: Record<string, string>): void {
  const accepted = String(call.request.headers['accept-encoding'] ?? '')
  const zip = /\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))/i.test(accepted)
  if (zip) sendTagged(call, { ...file, body: file.zipped }, { ...headers, 'content-encoding': 'gzip' })
  else sendTagged(call, file, headers)
}
