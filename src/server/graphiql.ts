/** GraphiQL, with the headers of every page of ours: no other site may show it in a frame, and it runs no script but its own. */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
// The bundled one: Yoga's own is loaded from a server on the internet.
import { renderGraphiQL } from '@graphql-yoga/render-graphiql'
import { wantsPage } from '../http/accept.ts'
import { type Call, sendText } from '../http/http.ts'
import { pageHeaders } from './console.ts'

interface Page {
  body: Buffer
  headers: Record<string, string>
}

/** By whether a token has to be shown. */
const pages = new Map<boolean, Page>()

export function wantsGraphiQL({ method, headers }: IncomingMessage): boolean {
  return method === 'GET' && wantsPage(headers.accept)
}

export function sendGraphiQL({ response }: Call, withToken: boolean): void {
  const page = pages.get(withToken) ?? render(withToken)
  pages.set(withToken, page)
  sendText(response, 200, 'text/html; charset=utf-8', page.body, page.headers)
}

/** Once: it is megabytes. */
function render(withToken: boolean): Page {
  const html = renderGraphiQL({
    title: 'Spillway',
    endpoint: '/graphql',
    defaultQuery: welcome,
    subscriptionsProtocol: 'SSE',
    // What the headers editor begins with: each request, subscriptions too, is sent with what stands there.
    ...(withToken ? { defaultHeaders: '{\n  "authorization": "Bearer TOKEN"\n}' } : {}),
  } as Parameters<typeof renderGraphiQL>[0])
  const begin = html.indexOf('<script>', html.indexOf('<div id="root">')) + '<script>'.length
  const script = html.slice(begin, html.lastIndexOf('</script>'))
  const hash = createHash('sha256').update(script).digest('base64')
  return {
    body: Buffer.from(html),
    headers: pageHeaders([
      `script-src 'sha256-${hash}'`,
      // The editor writes styles, and makes its workers and fonts of what the page holds.
      "style-src 'unsafe-inline'",
      'worker-src blob:',
      'font-src data:',
      'img-src data:',
      "connect-src 'self'",
    ]),
  }
}

const welcome = `# Save something, and see it arrive.
mutation Save {
  save(content: "something", waitMs: 5000) { id status acceptedAt content { savedAt } }
}

query Contents {
  contents(first: 10) { edges { node { id content createdAt } } pageInfo { endCursor hasNextPage } }
}

subscription Saved {
  saved { cursor content { id content } }
}
`
