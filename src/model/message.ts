/**
 * A message: a save as the queue stores it, with everything that the insert needs. By its version, its model and its columns, a worker of
 * another release recognises a message that it cannot decode. docs/glossary.md defines the terms.
 *
 * Version 2: `{ v: 2, model, id, at, data, trace? }`; `data` as model.ts' dataText. Version 1, of release 0.1: `{ v: 1, type: 'content', id,
 * at, content, trace? }`, a save of the model whose row has that name.
 */
import { type Model, type Models, readData, Undecodable, type Values } from './model.ts'
import { isObject, parseJson } from './parse.ts'

export interface Message {
  model: Model
  id: string
  /** When it was enqueued: milliseconds since 1970, by the clock of the API process. */
  at: number
  values: Values
}

/** `data` is dataText. `trace`, a W3C traceparent if this save is traced, is the last field: `traceOf` reads it at the end. */
export function encode(message: {
  model: Model
  id: string
  at: number
  data: string
  trace?: string | undefined
}): string {
  const { model, id, at, data, trace } = message
  const end = trace === undefined ? '}' : `,"trace":"${trace}"}`
  return `{"v":2,"model":"${model.name}","id":"${id}","at":${at},"data":${data}${end}`
}

/**
 * The traceparent of an encoded message, if it has one that is sampled. Found without decoding the message: no data can end like this, since
 * a quote within it is escaped and its own end follows.
 */
export function traceOf(body: string): string | undefined {
  return /,"trace":"(00-[0-9a-f]{32}-[0-9a-f]{16}-01)"\}$/.exec(body.slice(-70))?.[1]
}

/** The message, or what is wrong with it. Never throws: any program may have written to the queue. */
export function decode(body: string, models: Models): Message | Undecodable {
  const value = parseJson(body)
  if (value === undefined) return new Undecodable('the message is not JSON')
  if (!isObject(value)) return new Undecodable('the message is not a JSON object')
  const { v, id, at } = value
  if (v !== 1 && v !== 2) {
    const problem = `the message has version ${JSON.stringify(v)}; this worker understands versions 1 and 2`
    return new Undecodable(problem, { newer: typeof v === 'number' && v > 2 })
  }
  const [name, data] = v === 1 ? firstVersion(value, models) : [value.model, value.data]
  const model = typeof name === 'string' ? models.get(name) : undefined
  if (!model) {
    const problem = `the message is of the model ${JSON.stringify(name)}, which this worker does not have`
    return new Undecodable(problem, { newer: v === 2 && typeof name === 'string' })
  }
  if (typeof id !== 'string' || typeof at !== 'number' || !Number.isFinite(at))
    return new Undecodable('the message lacks a well-formed id or at')
  const values = readData(model, data)
  if (!(values instanceof Undecodable)) return { model, id, at, values }
  // No newer release writes version 1.
  return v === 1 ? new Undecodable(values.problem, { code: values.code }) : values
}

/** Version 1 has one column, and its type, the column and the row of the model have one name. */
function firstVersion(value: Record<string, unknown>, models: Models): [model: unknown, data: unknown] {
  const { type } = value
  const model = [...models.values()].find(({ names }) => names.one === type)
  return model ? [model.name, { [model.names.one]: value[model.names.one] }] : [type, undefined]
}
