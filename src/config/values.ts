/** The kinds of values that settings have. A message says what was expected and never repeats the value, which may hold a secret. */
import { isIP } from 'node:net'
import * as z from 'zod'
import { readTextFile } from './sources.ts'
import { lowerCaseScheme, type UrlRule, urlProblem } from './urls.ts'

export const number = (min: number, max: number) =>
  z
    .string()
    .refine((text) => /^\d+$/.test(text) && Number(text) >= min && Number(text) <= max, {
      error: `must be a whole number from ${min} to ${max}`,
    })
    .transform(Number)

export const numberOr = (fallback: number, min: number, max: number) => number(min, max).prefault(String(fallback))

export const maxProcesses = 256

export const processes = z
  .string()
  .refine((text) => text === 'auto' || (/^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= maxProcesses), {
    error: `must be a whole number from 1 to ${maxProcesses}, or auto`,
  })
  .transform((text) => (text === 'auto' ? text : Number(text)))

export const ratio = z
  .string()
  .refine((text) => /^(0(\.\d+)?|1(\.0+)?)$/.test(text), { error: 'must be a number from 0 to 1' })
  .transform(Number)

export const url = (protocols: string[], expected: string, more: Pick<UrlRule, 'credentials'> = {}) =>
  z
    .string()
    .superRefine((text, context) => {
      const problem = urlProblem(text, { protocols, expected, ...more })
      if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
    })
    .transform(lowerCaseScheme)

/** An address or a host name, without the brackets of IPv6. */
export const host = z
  .string()
  .toLowerCase()
  .transform((text) => text.replace(/^\[(.*)\]$/, '$1'))
  .refine((text) => isIP(text) !== 0 || /^[\w-]+(\.[\w-]+)*$/.test(text), {
    error: 'must be an address or a host name alone: PORT sets the port',
  })

/** A JSON object: the payload of a token. */
export const claims = z.string().transform((text, context): Readonly<Record<string, unknown>> => {
  const value = jsonIn(text)
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  context.addIssue({ code: 'custom', message: 'must be a JSON object of claims, as in {"sub":"dev"}' })
  return z.NEVER
})

/** Percent-encoded NAME=VALUE pairs, as OpenTelemetry specifies them; printable ASCII once they are decoded. */
const headerFormat = /^\s*[\w.-]+=(%(?!7f)[2-7][\da-f]|[ -$&-+\--~])*$/i

export const headers = z.string().refine((text) => text.split(',').every((header) => headerFormat.test(header)), {
  error: 'must be NAME=VALUE pairs, separated by commas',
})

/** The values of `headers`, as they are written and decoded. */
export const headerValues = (text = ''): string[] =>
  text.split(',').flatMap((header) => {
    const value = header.slice(header.indexOf('=') + 1).trim()
    return [value, decodeURIComponent(value)]
  })

/** The documents in a JSON file. The messages never repeat what is in the file. */
export const operations = z.string().transform((path, context): ReadonlySet<string> => {
  const read = readTextFile(path)
  const documents = 'text' in read ? documentsIn(read.text) : []
  const problem =
    'problem' in read
      ? `names a file that ${read.problem}`
      : 'must name a JSON file with a list of documents, or an object of them'
  if ('problem' in read || !documents) context.addIssue({ code: 'custom', message: problem })
  return new Set(documents)
})

function documentsIn(text: string): string[] | undefined {
  const parsed = jsonIn(text)
  const list: unknown[] = typeof parsed === 'object' && parsed !== null ? Object.values(parsed) : [undefined]
  return list.every((document) => typeof document === 'string') ? list.map((document) => document.trim()) : undefined
}

/** undefined: the text is not JSON. */
function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A value in its canonical form, or what is wrong with it. */
type Checked = { value: string } | { problem: string }

/** Items separated by commas. A message names an item by its place. */
const list = (check: (item: string) => Checked) =>
  z
    .string()
    .default('')
    .transform((text, context) => {
      const fail = (message: string) => context.addIssue({ code: 'custom', message })
      const items = text.split(',').flatMap((item) => item.trim() || [])
      if (text !== '' && items.length === 0) fail('has no items between its commas: list at least one, or leave it out')
      const values = items.flatMap((item, i) => {
        const checked = check(item)
        if ('value' in checked) return checked.value
        fail(items.length > 1 ? `(item ${i + 1}) ${checked.problem}` : checked.problem)
        return []
      })
      return [...new Set(values)]
    })

/** Host names and addresses, as `new URL(…).hostname` writes them; IPv6 without brackets. */
export const hostList = list((text) => {
  if (text.includes('*')) return { problem: 'must not have a *: list each host name' }
  if (text.includes('://')) return { problem: 'must be a host name alone, as in app.example, without https://' }
  if (/[\s/\\?#@,%]/.test(text)) return { problem: 'must be a host name, as in app.example' }
  const address = /^\[?([\da-f:.]*:[\da-f:.]*:[\da-f:.]*)\]?$/i.exec(text)?.[1]
  if (address === undefined && text.includes(':')) {
    return { problem: 'must be a host name without a port, as in app.example: it holds for every port' }
  }
  const url = `http://${address === undefined ? text.replace(/\.$/, '') : `[${address}]`}`
  if (!URL.canParse(url)) return { problem: 'must be a host name, as in app.example' }
  return { value: new URL(url).hostname.replace(/^\[|\]$/g, '') }
})

/** Origins, as browsers send them: lower case, no default port, no path. */
export const originList = list((text) => {
  if (text === '*') {
    return { problem: 'must not be *: every page of every site could then save and read. List each origin' }
  }
  if (text.includes('*')) return { problem: 'must not have a *: list each origin' }
  if (text === 'null') return { problem: 'must not be null: files and sandboxed frames of every site send that' }
  if (!/^[a-z][a-z\d+.-]*:\/\//i.test(text)) return { problem: 'must begin with its scheme, as in https://app.example' }
  if (/^(wss?|ftp):/i.test(text)) {
    return { problem: 'must be the origin of a page, as in https://app.example: it is the same for its WebSockets' }
  }
  if (/[\s\\]/.test(text) || !URL.canParse(text)) return { problem: 'must be an origin, as in https://app.example' }
  const { protocol, host, pathname, search, hash, username, password } = new URL(text)
  if (host === '' || username || password) return { problem: 'must be an origin, as in https://app.example' }
  if (pathname.length > 1 || search || hash) {
    return { problem: 'must be an origin alone, as in https://app.example, without a path' }
  }
  return { value: `${protocol}//${host}`.toLowerCase() }
})
