/** What is looked at before anything of an operation is executed: scopes, then variables. Of subscriptions: see subscriptions.ts. */
import { type ExecutionArgs, type GraphQLError, getOperationAST } from 'graphql'
import type { Plugin } from 'graphql-yoga'
import { type MaskError, refusal } from '../http/errors.ts'
import type { Context } from './builder.ts'
import { reachedFields } from './reach.ts'
import { checkScopes, scopesOf } from './scopes.ts'
import { variableErrors } from './variables.ts'

/** For Yoga, whose executor would look at neither, or repeat whole values. */
export function onlyAllowed(maskError: MaskError): Plugin {
  return {
    onExecute({ args, setResultAndStopExecution }) {
      const errors = errorsOf(args as ExecutionArgs, maskError)
      if (errors.length > 0) setResultAndStopExecution({ errors })
    },
  }
}

function errorsOf(args: ExecutionArgs, maskError: MaskError): GraphQLError[] {
  const { schema, document, operationName, contextValue, variableValues } = args
  // Which one it is to be, or that it cannot be told, is for the execution to say.
  const operation = getOperationAST(document, operationName)
  if (!operation) return []
  try {
    checkScopes((contextValue as Context).grant, scopesOf(schema, reachedFields(schema, document, operation)))
  } catch (error) {
    return [refusal(maskError, error)]
  }
  return variableErrors(schema, operation, variableValues ?? {})
}
