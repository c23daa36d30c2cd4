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

/** From the query string of a GET. */
export function paramsOfQuery(query: string): Params | undefined {
  const { query: text, variables, operationName, ...rest } = Object.fromEntries(new URLSearchParams(query))
  if (Object.keys(rest).length > 0) return undefined
  return paramsOf({
    query: text,
    ...(variables ? { variables: parse(variables) ?? variables } : {}),
    ...(operationName ? { operationName } : {}),
  })
}

function paramsOf(value: Record<string, unknown>): Params | undefined {
  for (const name in value) if (name !== 'query' && name !== 'variables' && name !== 'operationName') return undefined
  const { query, variables, operationName } = value
  if (typeof query !== 'string') return undefined
  if (variables != null && !isObject(variables)) return undefined
  if (operationName != null && typeof operationName !== 'string') return undefined
  return { query, variables: variables ?? {}, operationName: operationName ?? undefined }
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
