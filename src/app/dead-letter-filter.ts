/** Which dead letters: the conditions that an operator gives, and their test. Invariant: a filter that could match nothing is refused. */
import { badInput, failureCodes } from '../model/error.ts'
import { decode } from '../model/message.ts'
import { jsonOf, type Models, Undecodable } from '../model/model.ts'
import type { DeadLetter } from '../queue/queue.ts'

/** What a dead letter must have, each of it; a filter without a condition matches all. */
export interface DeadLetterFilter {
  model?: string | null | undefined
  code?: string | null | undefined
  /** The message of the failure contains this text, in upper or lower case. */
  reason?: string | null | undefined
  /** At this time or later. */
  failedAfter?: Date | null | undefined
  /** Before this time. */
  failedBefore?: Date | null | undefined
}

export const reasonLimit = 200

/** The save that a message is. */
export interface Save {
  model: string
  input: Record<string, unknown>
  /** Undefined if the message has no possible time. */
  acceptedAt: Date | undefined
}

/** Undefined if the message cannot be decoded. */
export function saveOf(body: string, models: Models): Save | undefined {
  const message = decode(body, models)
  if (message instanceof Undecodable) return undefined
  const { model, at, values } = message
  const acceptedAt = new Date(at)
  return {
    model: model.name,
    input: jsonOf(model, values),
    acceptedAt: Number.isNaN(+acceptedAt) ? undefined : acceptedAt,
  }
}

/** Whether the filter has no condition. */
export function isEmpty({ model, code, reason, failedAfter, failedBefore }: DeadLetterFilter): boolean {
  return (model ?? code ?? reason ?? failedAfter ?? failedBefore) == null
}

/** Checks the filter and returns its test. Throws BAD_USER_INPUT where nothing could match it. */
export function matcher(filter: DeadLetterFilter, models: Models): (deadLetter: DeadLetter) => boolean {
  const { model, code, failedAfter, failedBefore } = filter
  if (model != null) checkOneOf('model', model, [...models.keys()])
  if (code != null) checkOneOf('code', code, failureCodes)
  if (failedAfter && failedBefore && failedAfter >= failedBefore)
    throw badInput(
      `failedAfter must be before failedBefore, got ${failedAfter.toISOString()} and ${failedBefore.toISOString()}`,
    )
  const reason = filter.reason == null ? undefined : checkedReason(filter.reason)
  return ({ failure, body }: DeadLetter): boolean =>
    (code == null || failure.code === code) &&
    (failedAfter == null || failure.failedAt >= failedAfter) &&
    (failedBefore == null || failure.failedAt < failedBefore) &&
    (reason === undefined || failure.message.toLowerCase().includes(reason)) &&
    (model == null || saveOf(body, models)?.model === model)
}

function checkedReason(text: string): string {
  if (text.trim() === '') throw badInput('reason must not be blank; give a part of the message of the failure')
  if (text.length > reasonLimit)
    throw badInput(`reason must have at most ${reasonLimit} characters, got ${text.length}`)
  return text.toLowerCase()
}

function checkOneOf(name: string, value: string, known: readonly string[]): void {
  if (known.includes(value)) return
  throw badInput(`${name} must be one of ${known.join(', ')}, got ${JSON.stringify(value.slice(0, 50))}`)
}
