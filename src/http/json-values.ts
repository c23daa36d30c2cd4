/** How many values a large JSON text has, counted before it is parsed: a hundred thousand keys, or a million brackets, take long to parse. */
import { largeBytes } from '../app/bytes.ts'
import { badInput } from '../model/error.ts'

/** A thousand inputs of thirty columns have some 60,000. Node parses this many, in the worst shape, in 50 ms. */
const mostValues = 100_000

/** Throws BAD_USER_INPUT. A small text takes no time, whatever it has; one that is no JSON object or list is for others to judge. */
export function checkValues(text: string): void {
  if (text.length <= largeBytes || !/^\s*[[{]/.test(text)) return
  let values = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 0x22) i = endOfString(text, i)
    else if (code === 0x2c || code === 0x3a || code === 0x5b || code === 0x7b) values += 1
    if (values > mostValues) throw badInput(`a request of this size may not have more than ${mostValues} values`)
  }
}

/** Where the string ends that begins at `start`. */
export function endOfString(text: string, start: number): number {
  let end = start
  do {
    end = text.indexOf('"', end + 1)
    if (end < 0) return text.length
  } while (escaped(text, end))
  return end
}

function escaped(text: string, at: number): boolean {
  let backslashes = 0
  while (text.charCodeAt(at - 1 - backslashes) === 0x5c) backslashes += 1
  return backslashes % 2 === 1
}
