/** GraphiQL, with the security headers of every page: no other site can frame it, and it runs only its own script. */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
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
  /** It has megabytes, and is imported and rendered at the first request: at a start, that would be a sixth of the work. */
  #page: Promise<Page> | undefined

  /** `model`: the one of the first document. `withToken`: whether a token is required. */
  constructor(model: Model, { withToken }: { withToken: boolean }) {
    this.#model = model
    this.#withToken = withToken
  }

  async send({ response }: Call): Promise<void> {
    this.#page ??= render(welcomeOf(this.#model), this.#withToken).catch((error) => {
      this.#page = undefined
      throw error
    })
    const { body, headers } = await this.#page
    sendText(response, 200, 'text/html; charset=utf-8', body, headers)
  }
}

async function render(defaultQuery: string, withToken: boolean): Promise<Page> {
  // The bundled one: the page of Yoga itself loads scripts from the internet.
  const { renderGraphiQL } = await import('@graphql-yoga/render-graphiql')
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
