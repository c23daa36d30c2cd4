import { cut } from '../http/cut.ts'
import { badInput } from '../model/error.ts'

/** The parameters of a GraphQL request, where they are of the common shape. */
export interface Params {
  query: string
  variables: Record<string, unknown>
  operationName: string | undefined
}

/** From a JSON body; undefined where it is anything out of the ordinary, which is for Yoga to judge. */
export function paramsOfBody(body: string): Params | undefined {
  const value = parse(body)
  return isObject(value) ? paramsOf(value) : undefined
}

/** From the query string of a GET, of which `checkQuery` holds; parameters of other programs are left aside. */
export function paramsOfQuery(query: string): Params | undefined {
  const { query: text, variables, operationName, extensions } = Object.fromEntries(new URLSearchParams(query))
  return paramsOf({
    query: text,
    ...(variables ? { variables: parse(variables) } : {}),
    ...(operationName ? { operationName } : {}),
    ...(extensions ? { extensions: parse(extensions) } : {}),
  })
}

/** Throws BAD_USER_INPUT for a parameter of a query string that is given twice: nothing says which one is meant. */
export function checkOnce(given: URLSearchParams): void {
  const seen = new Set<string>()
  for (const name of given.keys()) {
    if (seen.has(name)) throw badInput(`the query parameter ${JSON.stringify(cut(name, 50))} is given twice`)
    seen.add(name)
  }
}

/** As checkOnce; and for parameters of a GET that have to be JSON and are none: Yoga would take that for a fault of ours. */
export function checkQuery(query: string): void {
  const given = new URLSearchParams(query)
  checkOnce(given)
  for (const name of ['variables', 'extensions']) {
    const text = given.get(name)
    if (text && parse(text) === undefined) throw badInput(`the query parameter ${name} is not JSON`)
  }
}

const names = new Set(['query', 'variables', 'operationName', 'extensions'])

function paramsOf(value: Record<string, unknown>): Params | undefined {
  for (const name in value) if (!names.has(name) && value[name] != null) return undefined
  const { query, variables, operationName, extensions } = value
  if (typeof query !== 'string') return undefined
  if (variables != null && !isObject(variables)) return undefined
  if (extensions != null && !isObject(extensions)) return undefined
  if (operationName != null && typeof operationName !== 'string') return undefined
  // An empty name is none, as in a query string.
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
