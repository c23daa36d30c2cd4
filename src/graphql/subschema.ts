/**
 * The schema as a subschema of another GraphQL server in this process, in the form that @graphql-tools/stitch takes. The executor takes the
 * same steps as the HTTP server: limits of documents, scopes, variables, feeds without a gap, masked errors. What is not GraphQL (hosts,
 * origins, tokens, rates) is for the other server.
 */
import { type DocumentNode, type ExecutionResult, type FormattedExecutionResult, GraphQLError, print } from 'graphql'
import { shownResult, thrownErrors } from '../http/errors.ts'
import { type Grant, type Scope, scopes } from '../model/grant.ts'
import { asyncIterator } from './async-iterator.ts'
import { makePipeline, type PipelineDeps } from './pipeline.ts'
import { checkScopes } from './scopes.ts'
import { declaredVariables, type Stream } from './streams.ts'

/** What a client of the other server may do here. */
export interface Access {
  /** read: rows, receipts, events. write: save. admin: the queue and dead letters. */
  scopes: readonly Scope[]
  /** What a verified token says: the values of `fromToken` and `visibleTo`. */
  claims?: Readonly<Record<string, unknown>>
}

/** `context`: of the other server. Throws where the client may do nothing. */
export type AccessOf = (context: unknown) => Access | Promise<Access>

export interface ExecutionRequest {
  document: DocumentNode
  variables?: Record<string, unknown> | undefined
  operationName?: string | undefined
  context?: unknown
}

export interface Subschema {
  schema: PipelineDeps['schema']
  executor<Data = Record<string, unknown>>(
    request: ExecutionRequest,
  ): Promise<ExecutionResult<Data> | AsyncIterableIterator<ExecutionResult<Data>>>
}

export function makeSubschema(deps: PipelineDeps, accessOf: AccessOf): Subschema {
  const { documents, subscriptions, contextOf, maskError } = makePipeline(deps, {
    introspection: true,
    operations: undefined,
  })
  const shown = (result: ExecutionResult) => located(shownResult(result, maskError))
  const failed = (error: unknown) => shown({ errors: thrownErrors(error) as GraphQLError[] })

  /** Event by event. A feed that fails ends with its error. */
  function eventsOf(stream: Stream): AsyncIterableIterator<ExecutionResult> {
    let results: readonly (FormattedExecutionResult | ExecutionResult)[] = []
    let next = 0
    let ended = false
    return asyncIterator(
      async () => {
        while (next === results.length) {
          const batch = ended ? undefined : await stream.next().catch((error) => ({ results: [endOf(error)] }))
          if (!batch) return undefined
          ;[results, next] = [batch.results, 0]
        }
        return located(results[next++]!)
      },
      () => stream.close(),
    )

    function endOf(error: unknown): ExecutionResult {
      ended = true
      return failed(error)
    }
  }

  async function execute({ document: node, variables = {}, operationName, context }: ExecutionRequest) {
    try {
      const params = { query: print(node), variables, operationName }
      const ours = contextOf(grantOf(await accessOf(context)))
      const document = documents.find(params)
      if (document.operation.operation === 'subscription')
        return eventsOf(await subscriptions.open(document, params, ours))
      checkScopes(ours.grant, document.needs)
      const errors = document.errorsOf(variables)
      if (errors.length > 0) throw new AggregateError(errors)
      return shown(await document.execute(undefined, ours, declaredVariables(document, params)))
    } catch (error) {
      return failed(error)
    }
  }

  return { schema: deps.schema, executor: execute as Subschema['executor'] }
}

function grantOf({ scopes: given, claims = {} }: Access): Grant {
  const unknown = given.find((scope) => !scopes.includes(scope))
  if (unknown !== undefined)
    throw new Error(`access(context) returned the scope ${unknown}; expected some of ${scopes.join(', ')}`)
  const { sub } = claims
  return { subject: typeof sub === 'string' ? sub : undefined, scopes: new Set(given), expiresAt: undefined, claims }
}

/** Errors that another server takes for those of GraphQL, which it need not mask. */
function located({ errors, ...rest }: FormattedExecutionResult | ExecutionResult): ExecutionResult {
  if (!errors) return rest
  return {
    ...rest,
    errors: errors.map(({ message, path, extensions }) => new GraphQLError(message, { path, extensions })),
  }
}
