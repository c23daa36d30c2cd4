/**
 * GET /openapi.json: the REST routes as OpenAPI 3.1, made from the models. Invariant: it says of the models what introspection says, to the
 * same clients: those with a valid token, whatever its scopes; INTROSPECTION=off turns off both.
 */
import { pageDefault, pageLimit } from '../app/rows.ts'
import { narrowingColumns } from '../graphql/columns.ts'
import { HttpError } from '../http/errors.ts'
import { sendTagged, type Tagged, tagged } from '../http/etag.ts'
import { maxCursorLength } from '../http/input.ts'
import { jsonType } from '../http/respond.ts'
import type { Route } from '../http/route.ts'
import { type Code, failureCodes } from '../model/error.ts'
import { claimNameOf } from '../model/input.ts'
import type { Model } from '../model/model.ts'
import { searched } from '../model/narrow.ts'
import {
  enumSchemas,
  idSchema,
  inputSchema,
  outputProperties,
  parameterSchema,
  ref,
  type Schema,
  timeSchema,
} from './json-schema.ts'
import { Document, json } from './openapi-document.ts'

export const openApiPath = '/openapi.json'

export interface OpenApiOptions {
  /** Whether requests need a token. */
  withToken: boolean
  introspection: boolean
}

export function openApiRoute(models: readonly Model[], options: OpenApiOptions): Route {
  let file: Tagged | undefined
  return {
    scope: 'any',
    GET: (call) => {
      if (!options.introspection)
        throw new HttpError(404, `There is no ${openApiPath} where introspection is off (INTROSPECTION, NODE_ENV).`)
      file ??= tagged(jsonType, Buffer.from(JSON.stringify(documentOf(models, options))))
      // A cache of several clients must not send it to one without a token.
      sendTagged(call, file, { 'cache-control': 'private, no-cache' })
    },
  }
}

export function documentOf(models: readonly Model[], { withToken }: Pick<OpenApiOptions, 'withToken'>): Schema {
  const document = new Document(withToken)
  for (const model of models) {
    document.add(model.names.savePath, 'post', saveOperation(model, document))
    document.add(model.names.listPath, 'get', listOperation(model, document))
  }
  document.add('/receipts/{id}', 'get', receiptOperation(models, document))
  const schemas = {
    ...enumSchemas(models),
    ...Object.fromEntries(models.flatMap((model) => Object.entries(schemasOf(model)))),
    Failure: failureSchema,
  }
  return document.whole(schemas)
}

const statusSchema: Schema = {
  type: 'string',
  enum: ['QUEUED', 'SAVED', 'FAILED'],
  description: 'QUEUED: durable, and not a row yet.',
}

const failureSchema: Schema = {
  type: 'object',
  description: 'Why a save became a dead letter.',
  properties: {
    code: { type: 'string', examples: failureCodes },
    message: { type: 'string' },
    attempts: { type: 'integer', minimum: 0 },
    failedAt: timeSchema,
  },
  required: ['code', 'message', 'attempts', 'failedAt'],
}

function schemasOf(model: Model): Record<string, Schema> {
  const { name, names, description } = model
  const row = { id: idSchema, ...outputProperties(model), createdAt: timeSchema, savedAt: timeSchema }
  const receipt = {
    id: idSchema,
    model: { type: 'string', const: name },
    status: statusSchema,
    duplicate: { type: 'boolean' },
    acceptedAt: { ...timeSchema, description: 'When the API received the save.' },
    conflicts: { type: 'integer', minimum: 0, description: 'How many dead letters with ID_CONFLICT the id has.' },
    [names.one]: { anyOf: [ref(name), { type: 'null' }], description: 'The row, once it is saved.' },
    failure: { anyOf: [ref('Failure'), { type: 'null' }] },
  }
  return {
    [name]: { type: 'object', description, properties: row, required: Object.keys(row) },
    [`${name}Input`]: inputSchema(model),
    [`${name}Receipt`]: { type: 'object', properties: receipt, required: Object.keys(receipt) },
  }
}

function saveOperation(model: Model, document: Document): Schema {
  const { name, names, columns } = model
  const claims = columns.some((column) => claimNameOf(model, column) !== undefined)
  const saving: Code[] = ['ID_CONFLICT', 'QUEUE_FULL', 'QUEUE_UNAVAILABLE', 'OUTCOME_UNKNOWN']
  return {
    tags: [name],
    operationId: names.save,
    summary: `Saves a ${name}: answers as soon as the queue has it on disk.`,
    ...document.security('write'),
    requestBody: { required: true, content: json(ref(`${name}Input`)) },
    responses: {
      202: {
        description: 'It is accepted; with an id that was saved before, the status of the first save.',
        content: json({
          type: 'object',
          properties: { id: idSchema, status: statusSchema },
          required: ['id', 'status'],
        }),
      },
      // A column may need a claim, which there is none of without a token.
      ...document.errors(claims ? ['UNAUTHENTICATED', ...saving] : saving, { 413: 'The body is too large.' }),
    },
  }
}

function listOperation(model: Model, document: Document): Schema {
  const { name, names, by } = model
  const row = { id: idSchema, ...outputProperties(model), created_at: timeSchema }
  const page = {
    results: { type: 'array', items: { type: 'object', properties: row, required: Object.keys(row) } },
    next: { type: ['string', 'null'], description: 'The cursor of the next page, for `after`; null: there is none.' },
    saved_cursor: {
      type: ['string', 'null'],
      description:
        'Where the events stood before the page was read, for a subscription. Null only until the server has reached the events log once.',
    },
  }
  const sets = by.map((set) => set.join(' with ')).join('; ')
  return {
    tags: [name],
    operationId: names.many,
    summary: `A page of ${names.many}, newest first.${sets ? ` It can be narrowed by: ${sets}.` : ''}`,
    ...document.security('read'),
    parameters: [
      {
        name: 'first',
        in: 'query',
        description: 'How many.',
        schema: { type: 'integer', minimum: 0, maximum: pageLimit, default: pageDefault },
      },
      {
        name: 'after',
        in: 'query',
        description: '`next` of the page before.',
        schema: { type: 'string', maxLength: maxCursorLength },
      },
      ...narrowingColumns(model).map((column) => ({
        name: column.name,
        in: 'query',
        description: `Only rows with this value. Lists are narrowed by: ${sets}.`,
        schema: parameterSchema(searched(column)),
      })),
    ],
    responses: {
      200: {
        description: 'A page.',
        content: json({ type: 'object', properties: page, required: Object.keys(page) }),
      },
      ...document.errors(['STORE_UNAVAILABLE']),
    },
  }
}

function receiptOperation(models: readonly Model[], document: Document): Schema {
  const mapping = Object.fromEntries(models.map(({ name }) => [name, ref(`${name}Receipt`).$ref]))
  return {
    tags: ['Receipts'],
    operationId: 'receipt',
    summary: 'What became of a save.',
    ...document.security('read'),
    parameters: [{ name: 'id', in: 'path', required: true, schema: idSchema, description: 'The id of the save.' }],
    responses: {
      200: {
        description: 'The receipt.',
        content: json({
          oneOf: models.map(({ name }) => ref(`${name}Receipt`)),
          discriminator: { propertyName: 'model', mapping },
        }),
      },
      ...document.errors(['NOT_FOUND', 'QUEUE_UNAVAILABLE', 'STORE_UNAVAILABLE']),
    },
  }
}
