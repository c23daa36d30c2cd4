/** An operator's edit of a dead letter: the new message, which keeps the id and the time of the save. */

import { codecs } from '../model/columns.ts'
import { badInput } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'
import { parseEdit } from '../model/input.ts'
import { decode, encode, traceOf } from '../model/message.ts'
import { dataText, digestOf, type Model, type Models, Undecodable, type Values } from '../model/model.ts'
import { isObject } from '../model/parse.ts'
import type { DeadLetter, Item } from '../queue/queue.ts'

export interface Edited {
  item: Item
  model: Model
  /** The names of the columns whose values differ. */
  changed: string[]
}

/** Throws BAD_USER_INPUT, where the dead letter cannot be edited, too; and as the model's `check` of the input with this grant. */
export function edited(
  { id, body }: DeadLetter,
  input: unknown,
  { models, grant }: { models: Models; grant: Grant },
): Edited {
  const message = decode(body, models)
  if (message instanceof Undecodable) throw notEditable(id, message.problem)
  if (message.id !== id) throw notEditable(id, 'the message has another id')
  if (!Number.isSafeInteger(message.at) || message.at < 0) throw notEditable(id, 'the message has no possible time')
  if (!isObject(input) || Array.isArray(input)) throw badInput('input must be a JSON object with the columns by name')
  const { model, at, values: stored } = message
  const values = parseEdit(model, input, grant, stored)
  const data = dataText(model, values)
  const item = {
    id,
    digest: digestOf(model, values, data),
    at,
    body: encode({ model, id, at, data, trace: traceOf(body) }),
  }
  return { item, model, changed: changedColumns(model, stored, values) }
}

function notEditable(id: string, problem: string) {
  return badInput(
    `The dead letter of ${id} cannot be edited, because this release cannot decode it: ${problem}. Retry it with a release that can, or discard it.`,
  )
}

function changedColumns({ columns }: Model, before: Values, after: Values): string[] {
  return columns
    .filter(({ name, type }) => text(type, before[name]) !== text(type, after[name]))
    .map(({ name }) => name)
}

const text = (type: keyof typeof codecs, value: unknown) => (value == null ? undefined : codecs[type].text(value))
