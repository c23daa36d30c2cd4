/** Reads values that another process wrote. Nothing here throws: undefined means that a value is not of the expected form. */

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

/** The last moment that a Date can hold, in milliseconds since 1970. */
const lastMoment = 8.64e15

/** A moment in milliseconds since 1970. */
export function readDate(value: unknown): Date | undefined {
  return typeof value === 'number' && Math.abs(value) <= lastMoment ? new Date(value) : undefined
}
