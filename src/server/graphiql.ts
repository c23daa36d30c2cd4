/** GraphiQL, with the security headers of every page: no other site can frame it, and it runs only its own script. */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
// The bundled one: the page of Yoga itself loads scripts from the internet.
import { renderGraphiQL } from '@graphql-yoga/render-graphiql'
import { wantsPage } from '../http/accept.ts'
import { sendText } from '../http/respond.ts'
import type { Call } from '../http/route.ts'
import type { Column } from '../model/columns.ts'
import type { Model } from '../model/model.ts'
import { pageHeaders } from './console.ts'
import { isRequired, sampleOf } from './samples.ts'

interface Page {
  body: Buffer
  headers: Record<string, string>
}

export function wantsGraphiQL({ method, headers }: IncomingMessage): boolean {
  return method === 'GET' && wantsPage(headers.accept)
}

export class GraphiQL {
  readonly #model: Model
  readonly #withToken: boolean
  /** It has megabytes, and is rendered at the first request. */
  #page: Page | undefined

  /** `model`: the one of the first document. `withToken`: whether a token is required. */
  constructor(model: Model, { withToken }: { withToken: boolean }) {
    this.#model = model
    this.#withToken = withToken
  }

  send({ response }: Call): void {
    this.#page ??= render(welcomeOf(this.#model), this.#withToken)
    sendText(response, 200, 'text/html; charset=utf-8', this.#page.body, this.#page.headers)
  }
}

function render(defaultQuery: string, withToken: boolean): Page {
  const html = renderGraphiQL({
    title: 'Spillway',
    endpoint: '/graphql',
    defaultQuery,
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

/** The first document: a save of the model, its list, and its subscription. */
export function welcomeOf(model: Model): string {
  const { one, many, save, saved, flat } = model.names
  const input = model.columns
    .filter((column) => isRequired(model, column))
    .map((column) => `${column.name}: ${literalOf(column, sampleOf(model, column) ?? '…')}`)
    .join(', ')
  const given = flat ? input : `input: { ${input} }`
  const row = ['id', ...model.columns.map(({ name }) => name), 'createdAt'].join(' ')
  return `# Save something, and see it arrive.
mutation Save {
  ${save}(${given ? `${given}, ` : ''}waitMs: 5000) { saveId status acceptedAt ${one} { savedAt } }
}

query List {
  ${many}(first: 10) { edges { node { ${row} } } pageInfo { endCursor hasNextPage } }
}

subscription Saved {
  ${saved} { cursor ${one} { ${row} } }
}
`
}

/** A GraphQL literal. The samples of JSON columns are empty objects. */
function literalOf({ type }: Column, sample: unknown): string {
  return type === 'Enum' ? String(sample) : JSON.stringify(sample)
}
