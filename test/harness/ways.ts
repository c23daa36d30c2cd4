/**
 * Ways of writing the same request: fragments, aliases, directives, variables, white space, other operations beside it, and what HTTP
 * leaves to a client. Invariant: whatever is drawn asks for the same root field with the same arguments and the same selection.
 */
import fc from 'fast-check'
import { SseClient } from './sse.ts'
import { WsClient } from './ws.ts'

/** What is asked for. */
export interface Asked {
  kind: 'query' | 'subscription'
  /** The root field, its one argument, and the type that it gives. */
  field: string
  argument: { name: string; type: string; value: unknown } | undefined
  type: string
  /** At least two fields, which can be asked for apart from each other. */
  selection: readonly string[]
}

export interface Written {
  query: string
  variables: Record<string, unknown>
  operationName?: string
}

const spaces = fc.constantFrom(' ', '\n', '\t', ' , ', '\r\n', ' # subscription { nothing }\n')

const forms = fc.record({
  alias: fc.constantFrom('', 'a', 'then', '__proto__', 'query'),
  argument: fc.constantFrom('literal', 'variable', 'default', 'required'),
  directive: fc.constantFrom('', '@include(if: true)', '@skip(if: false)', '@include(if: true) @skip(if: false)'),
  root: fc.constantFrom('plain', 'inline', 'condition', 'fragment', 'nested', 'twice', 'beside'),
  selection: fc.constantFrom('plain', 'inline', 'condition', 'fragment', 'variable'),
  named: fc.boolean(),
  others: fc.boolean(),
  before: spaces,
  between: spaces,
  /** Longer than any document that is kept. */
  comment: fc.constantFrom(0, 0, 0, 11_000),
})

export function written(asked: Asked): fc.Arbitrary<Written> {
  return forms.map((form) => {
    const { kind, field, argument, type, selection } = asked
    const root = kind === 'query' ? 'Query' : 'Subscription'
    const variables: Record<string, unknown> = {}
    const declared: string[] = []
    const fragments: string[] = []
    let given = ''
    if (argument) {
      const { name, value } = argument
      const literal = JSON.stringify(value)
      if (form.argument === 'literal') given = `(${name}: ${literal})`
      else {
        given = `(${name}: $v)`
        const bang = form.argument === 'required' ? '!' : ''
        declared.push(`$v: ${argument.type}${bang}${form.argument === 'default' ? ` = ${literal}` : ''}`)
        if (form.argument !== 'default') variables.v = value
      }
    }
    const select = (fields: readonly string[], n: number): string => {
      const all = fields.join(form.between)
      switch (form.selection) {
        case 'inline':
          return `{ ... { ${all} } }`
        case 'condition':
          return `{ ... on ${type} @include(if: true) { ${all} } }`
        case 'fragment':
          fragments.push(`fragment S${n} on ${type} { ${all} }`)
          return `{ ...S${n} }`
        case 'variable':
          if (n === 0) declared.push('$yes: Boolean! = true')
          return `{ ... @include(if: $yes) { ${all} } }`
        default:
          return `{ ${all} }`
      }
    }
    const name = form.alias ? `${form.alias}: ${field}` : field
    const one = (fields: readonly string[], n = 0) => `${name}${given} ${form.directive} ${select(fields, n)}`
    const whole = () => {
      switch (form.root) {
        case 'inline':
          return `... { ${one(selection)} }`
        case 'condition':
          return `... on ${root} @skip(if: false) { ${one(selection)} }`
        case 'fragment':
          fragments.push(`fragment R on ${root} { ${one(selection)} }`)
          return '...R'
        case 'nested':
          fragments.push(`fragment R on ${root} { ... on ${root} { ${one(selection)} } }`)
          return '... { ...R @include(if: true) }'
        case 'twice':
          return `${one(selection.slice(0, 1))} ${one(selection.slice(1), 1)}`
        case 'beside':
          return `beside: queue @skip(if: true) { depth } ${one(selection)}`
        default:
          return one(selection)
      }
    }
    const fields = whole()
    const named = form.named || form.others
    const operation = `${kind} ${named ? 'It' : ''} ${declared.length > 0 ? `(${declared.join(' ')})` : ''} { ${fields} }`
    const parts = form.others
      ? ['query Other { __typename }', ...fragments, operation]
      : kind === 'query' && !named && declared.length === 0
        ? [`{ ${fields} }`, ...fragments]
        : [operation, ...fragments]
    const comment = form.comment > 0 ? `# ${'x'.repeat(form.comment)}\n` : ''
    return {
      query: `${form.before}${comment}${parts.join(form.between)}`,
      variables,
      ...(named ? { operationName: 'It' } : {}),
    }
  })
}

/** How a stream is asked for. */
export interface Transport {
  wire: 'POST' | 'GET' | 'WebSocket'
  accept: string | undefined
  extra: Record<string, unknown>
}

export const transports: fc.Arbitrary<Transport> = fc.record({
  wire: fc.constantFrom('POST', 'POST', 'GET', 'WebSocket'),
  accept: fc.constantFrom(
    'text/event-stream',
    'Text/Event-Stream',
    'text/event-stream; charset=utf-8',
    'text/event-stream;q=0.1, application/json',
    'application/json, */*;q=0.1',
    'text/*',
    '*/*',
    // urql's.
    'application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed',
    undefined,
  ),
  extra: fc.constantFrom(
    {},
    { extensions: {} },
    { extensions: { persistedQuery: { version: 1, sha256Hash: 'a'.repeat(64) } } },
    { operationName: '' },
    { utm_source: 'x' },
  ),
})

export interface Stream {
  status: number
  /** Of the frames that have one (SSE). */
  ids(): string[]
  /** What `next` brought, with the root field's own name. */
  // biome-ignore lint/suspicious/noExplicitAny: as Json in client.ts.
  results(): any[]
  completed(): boolean
  /** Resolves when it ended: SSE with the connection, WebSocket with the close. */
  ended: Promise<unknown>
  close(): void
}

export async function openStream(
  url: string,
  { query, variables, operationName }: Written,
  { wire, accept, extra }: Transport,
  { lastEventId, authorization }: { lastEventId?: string; authorization?: string } = {},
): Promise<Stream> {
  const { operationName: emptyName, ...others } = extra
  const name = operationName ?? emptyName
  const params = { query, variables, ...(name === undefined ? {} : { operationName: name }), ...others }
  const credentials = authorization ? { authorization } : undefined
  if (wire === 'WebSocket') {
    const client = await WsClient.connect(url, credentials)
    client.send({ id: '1', type: 'subscribe', payload: { ...params, operationName: operationName ?? null } })
    return {
      status: 200,
      ids: () => [],
      results: () => client.of('1').flatMap(({ type, payload }) => toResult(type, payload)),
      completed: () => client.of('1').some(({ type }) => type === 'complete'),
      ended: client.closed,
      close: () => client.close(),
    }
  }
  const headers: Record<string, string> = {
    ...(accept === undefined ? {} : { accept }),
    ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
    ...credentials,
  }
  const client =
    wire === 'GET'
      ? await SseClient.fetch(`${url}/graphql?${searchOf(params)}`, { headers })
      : await SseClient.fetch(`${url}/graphql`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', ...headers },
          body: JSON.stringify({ ...params, utm_source: undefined }),
        })
  return {
    status: client.status,
    ids: () => client.frames.flatMap(({ id }) => (id === undefined ? [] : [id])),
    results: () => client.results.map(unalias),
    completed: () => client.frames.some(({ event }) => event === 'complete'),
    ended: client.ended,
    close: () => client.close(),
  }
}

function searchOf(params: Record<string, unknown>): URLSearchParams {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(params))
    search.set(name, typeof value === 'string' ? value : JSON.stringify(value))
  return search
}

function toResult(type: string, payload: unknown): unknown[] {
  if (type === 'next') return [unalias(payload as { data?: object })]
  return type === 'error' ? [{ errors: payload }] : []
}

export function unalias(result: { data?: object | null }): unknown {
  return result.data ? { ...result, data: Object.values(result.data)[0] } : result
}
