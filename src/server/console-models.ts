/**
 * GET /console/models.json: what the console must know of the models to show their rows and to build their form. Introspection may be off,
 * so the console does not ask for it. Invariant: only a client that may read, save or administer rows gets it; REST shows such a client the
 * same names, as keys of rows and in errors. It holds nothing of the database, and no name of a claim.
 */
import { requireScope } from '../http/auth.ts'
import { sendJson } from '../http/respond.ts'
import type { Route } from '../http/route.ts'
import { type Column, codecs } from '../model/columns.ts'
import { scopes } from '../model/grant.ts'
import { claimNameOf } from '../model/input.ts'
import type { Model } from '../model/model.ts'
import { sampleOf } from './samples.ts'

export const modelsPath = '/console/models.json'

export function modelsRoute(models: readonly Model[]): Route {
  const body = { models: models.map(shownModel) }
  return {
    scope: 'any',
    GET: ({ response, grant }) => {
      requireScope(grant, scopes.find((scope) => grant.scopes.has(scope)) ?? 'read')
      sendJson(response, 200, body)
    },
  }
}

function shownModel(model: Model) {
  const { one, many, save, saveMany, saved, flat } = model.names
  const columns = model.columns.map((column) => shownColumn(model, column))
  return { name: model.name, names: { one, many, save, saveMany, saved, flat }, columns }
}

/** Values are in the form that clients send. A property that is undefined is left out. */
function shownColumn(model: Model, column: Column) {
  const { name, type, enumName, values, nullable, description, min, max, maxLength, digits, pattern } = column
  const output = (value: unknown) =>
    value === undefined || value === null ? undefined : (codecs[type].output?.(value) ?? value)
  return {
    name,
    type,
    enumName,
    values: values?.map((one) => one.name),
    nullable,
    default: output(column.default),
    /** A client may not send it. */
    fromToken: claimNameOf(model, column) !== undefined || undefined,
    description,
    min: output(min),
    max: output(max),
    maxLength,
    digits,
    pattern: pattern?.source,
    sample: sampleOf(model, column),
  }
}
