/** The OpenAPI document of a server, and answers of its REST routes compared with what the document says of them. */
import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { expect } from 'vitest'
import type { Client, Json } from './client.ts'

/** Throws unless it is valid OpenAPI 3.1, with references that lead somewhere. */
export async function checkDocument(document: Json): Promise<void> {
  const validator = new Validator()
  expect(await validator.validate(structuredClone(document))).toEqual({ valid: true })
  expect(validator.version).toBe('3.1')
  validator.resolveRefs()
}

export class OpenApi {
  readonly document: Json
  readonly #client: Client
  readonly #ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false, allErrors: true })
  /** By the schema in the document: of inputs, and of answers, which may have no other member. */
  readonly #open = new WeakMap<object, ValidateFunction>()
  readonly #closed = new WeakMap<object, ValidateFunction>()

  constructor(document: Json, client: Client) {
    this.document = document
    this.#client = client
    addFormats.default(this.#ajv)
    for (const word of ['components', 'discriminator']) this.#ajv.addKeyword(word)
    this.#ajv.addFormat('double', true).addFormat('int32', true)
    // A member of an answer that the document does not name is an error here. For clients it is none: a later release may have more.
    this.#ajv.addSchema({ $id: 'document', components: closed(document.components) })
  }

  static async of(client: Client): Promise<OpenApi> {
    const response = await client.fetch('/openapi.json')
    expect(response.status).toBe(200)
    return new OpenApi(await response.json(), client)
  }

  /** Sends a request, and compares the answer with the document: status, type, headers and body. Returns status and body. */
  async send(method: 'get' | 'post', path: string, rest: { at?: string; query?: string; body?: unknown } = {}) {
    const { at = path, query = '', body } = rest
    const init = body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }
    const response = await this.#client.fetch(at + query, { method, ...init })
    const { status } = response
    const where = `${method} ${at}${query} ${init.body?.slice(0, 200) ?? ''} -> ${status}`
    const { responses } = this.document.paths[path][method]
    const described = this.resolve(responses[status] ?? responses.default)
    expect(response.headers.get('content-type'), where).toBe('application/json; charset=utf-8')
    for (const name of ['retry-after', 'www-authenticate'])
      if (response.headers.has(name))
        expect(Object.keys(described.headers).map((one) => one.toLowerCase())).toContain(name)
    const answer: Json = await response.json()
    this.check(described.content['application/json'].schema, answer, where)
    return { status, body: answer, described: status in responses }
  }

  resolve(value: Json): Json {
    if (value.$ref === undefined) return value
    return value.$ref
      .split('/')
      .slice(1)
      .reduce((part: Json, name: string) => part[name], this.document)
  }

  check(schema: Json, value: unknown, where: string): void {
    const errors = this.#errorsBy(this.#closed, schema, value)
    if (errors.length > 0) expect(errors, `${where}\n${JSON.stringify(value).slice(0, 500)}`).toEqual([])
  }

  /** What the schema says against the value. */
  errorsOf(schema: Json, value: unknown): string[] {
    return this.#errorsBy(this.#open, schema, value)
  }

  #errorsBy(known: WeakMap<object, ValidateFunction>, schema: Json, value: unknown): string[] {
    let validate = known.get(schema)
    if (!validate) {
      const text = JSON.stringify(known === this.#closed ? closed(schema) : schema)
      validate = this.#ajv.compile(JSON.parse(text.replaceAll('"#/', '"document#/')))
      known.set(schema, validate)
    }
    return validate(value) ? [] : validate.errors!.map(({ instancePath, message }) => `${instancePath} ${message}`)
  }
}

function closed(schema: Json): Json {
  if (typeof schema !== 'object' || schema === null) return schema
  if (Array.isArray(schema)) return schema.map(closed)
  const parts = Object.fromEntries(Object.entries(schema).map(([name, part]) => [name, closed(part)]))
  return schema.type === 'object' && schema.properties ? { ...parts, additionalProperties: false } : parts
}
