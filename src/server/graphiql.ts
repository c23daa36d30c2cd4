/** GraphiQL, with the security headers of every page: no other site can frame it, and it runs only its own script. */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
// The bundled one: the page of Yoga itself loads scripts from the internet.
import { renderGraphiQL } from '@graphql-yoga/render-graphiql'
import { wantsPage } from '../http/accept.ts'
import { sendText } from '../http/respond.ts'
import type { Call } from '../http/route.ts'
import { pageHeaders } from './console.ts'

interface Page {
  body: Buffer
  headers: Record<string, string>
}

/** Rendered pages, by whether a token is required. */
const pages = new Map<boolean, Page>()

export function wantsGraphiQL({ method, headers }: IncomingMessage): boolean {
  return method === 'GET' && wantsPage(headers.accept)
}

export function sendGraphiQL({ response }: Call, withToken: boolean): void {
  const page = pages.get(withToken) ?? render(withToken)
  pages.set(withToken, page)
  sendText(response, 200, 'text/html; charset=utf-8', page.body, page.headers)
}

/** Call once per page: it has megabytes. */
function render(withToken: boolean): Page {
  const html = renderGraphiQL({
    title: 'Spillway',
    endpoint: '/graphql',
    defaultQuery: welcome,
    subscriptionsProtocol: 'SSE',
    // The initial text of the headers editor; every request, subscriptions included, is sent with these headers.
    ...(withToken ? { defaultHeaders: '{\n  "authorization": "Bearer TOKEN"\n}' } : {}),
  } as Parameters<typeof renderGraphiQL>[0])
  const begin = html.indexOf('<script>', html.indexOf('<div id="root">')) + '<script>'.length
  const script = html.slice(begin, html.lastIndexOf('</script>'))
  const hash = createHash('sha256').update(script).digest('base64')
  return {
    body: Buffer.from(html),
    headers: pageHeaders([
      `script-src 'sha256-${hash}'`,
      // The editor adds inline styles, and creates workers and fonts from data in the page.
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
