/** The parameters of a GraphQL request, from a JSON body or a query string. */
import { truncate } from '../http/errors.ts'
import { badInput } from '../model/error.ts'

/** The parameters of a request in the common form. */
export interface GraphQLParams {
  query: string
  variables: Record<string, unknown>
  operationName: string | undefined
}

/** The parameters in a JSON body; undefined for any uncommon form, which Yoga handles. */
export function paramsOfBody(body: string): GraphQLParams | undefined {
  const value = parse(body)
  return isObject(value) ? paramsOf(value) : undefined
}

/** The parameters in the query string of a GET, after `checkQuery`; unknown parameters are ignored. */
export function paramsOfQuery(query: string): GraphQLParams | undefined {
  const { query: text, variables, operationName, extensions } = Object.fromEntries(new URLSearchParams(query))
  return paramsOf({
    query: text,
    ...(variables ? { variables: parse(variables) } : {}),
    ...(operationName ? { operationName } : {}),
    ...(extensions ? { extensions: parse(extensions) } : {}),
  })
}

/** Throws BAD_USER_INPUT for a parameter of a query string that is given twice, which is ambiguous. */
export function checkOnce(given: URLSearchParams): void {
  const seen = new Set<string>()
  for (const name of given.keys()) {
    if (seen.has(name)) throw badInput(`the query parameter ${JSON.stringify(truncate(name, 50))} is given twice`)
    seen.add(name)
  }
}

/** As checkOnce; also for parameters of a GET that must be JSON and are not, for which Yoga would respond 500. */
export function checkQuery(query: string): void {
  const given = new URLSearchParams(query)
  checkOnce(given)
  for (const name of ['variables', 'extensions']) {
    const text = given.get(name)
    if (text && parse(text) === undefined) throw badInput(`the query parameter ${name} is not JSON`)
  }
}

const names = new Set(['query', 'variables', 'operationName', 'extensions'])

function paramsOf(value: Record<string, unknown>): GraphQLParams | undefined {
  for (const name in value) if (!names.has(name) && value[name] != null) return undefined
  const { query, variables, operationName, extensions } = value
  if (typeof query !== 'string') return undefined
  if (variables != null && !isObject(variables)) return undefined
  if (extensions != null && !isObject(extensions)) return undefined
  if (operationName != null && typeof operationName !== 'string') return undefined
  // An empty name counts as none, as in a query string.
  return { query, variables: variables ?? {}, operationName: operationName || undefined }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
