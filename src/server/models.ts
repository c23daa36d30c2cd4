/**
 * GET /models.json: what clients that know no model must know of them to save and to follow rows, and to build a form: the package
 * spillway-client, and the console. Introspection may be off, so they do not ask for it. Invariant: only a client that may read, save or
 * administer rows gets it; REST shows such a client the same names, as keys of rows and in errors. It holds nothing of the database, and no name of a claim.
 */
import { requireScope } from '../http/auth.ts'
import { sendTagged, tagged } from '../http/etag.ts'
import { jsonType } from '../http/respond.ts'
import type { Route } from '../http/route.ts'
import { type Column, codecs } from '../model/columns.ts'
import { scopes } from '../model/grant.ts'
import { claimNameOf } from '../model/input.ts'
import type { Model } from '../model/model.ts'
import { sampleOf } from './samples.ts'

export const modelsPath = '/models.json'

export function modelsRoute(models: readonly Model[]): Route {
  const body = tagged(jsonType, Buffer.from(JSON.stringify({ models: models.map(shownModel) })))
  return {
    scope: 'any',
    GET: (call) => {
      requireScope(call.grant, scopes.find((scope) => call.grant.scopes.has(scope)) ?? 'read')
      // A cache of several clients must not send it to one without a token.
      sendTagged(call, body, { 'cache-control': 'private, no-cache' })
    },
  }
}

function shownModel(model: Model) {
  const { one, many, save, saveMany, saved, flat } = model.names
  const columns = model.columns.map((column) => shownColumn(model, column))
  return { name: model.name, names: { one, many, save, saveMany, saved, flat }, columns, by: model.by }
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
