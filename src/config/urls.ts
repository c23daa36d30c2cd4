/** URLs among the settings: the checks before any other code parses them, and the parts that are safe to log. */
import { realpathSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { mysqlUrlProblem } from '../db/address.ts'
import { splitHosts } from '../model/hosts.ts'
import { redisUrlProblem } from '../redis/address.ts'

export interface UrlRule {
  /** With their colon. */
  protocols: readonly string[]
  /** The expected form, for the message. */
  expected: string
  /** http(s) only: a URL with a user and password is refused, and the message says where they belong. */
  credentials?: string
}

/** What is wrong with a URL. The message never repeats any part of it, which may be a password. */
export function urlProblem(text: string, { protocols, expected, credentials }: UrlRule): string | undefined {
  const protocol = /^[a-z][a-z\d+.-]*:/i.exec(text)?.[0].toLowerCase()
  if (protocol === undefined || !protocols.includes(protocol)) return `must be ${expected}`
  if (protocol === 'memory:') return text.toLowerCase() === 'memory:' ? undefined : `must be ${expected}`
  if (protocol === 'file:') return fileProblem(text)
  // The parser of URL removes tabs and line ends.
  if (/[\s\p{Cc}]/u.test(text)) return `must have no spaces or control characters: ${encode}`
  const [, authority = '', rest = ''] = /^[^:]*:\/\/([^/?#]*)(.*)$/.exec(text) ?? []
  if (rest.includes('@') || rest.includes('#')) return `has an @, :, /, ? or # in a wrong place: ${encode}`
  if (/%(?![\da-f]{2})/i.test(text) || !isDecodable(text))
    return `has a % that begins no percent-encoded character: ${encode}`
  if (protocol === 'mysql:') return mysqlUrlProblem(text)
  if (protocol.startsWith('redis')) return redisUrlProblem(text)
  if (!URL.canParse(text) || new URL(text).host === '') return `must be ${expected}`
  if (credentials !== undefined && authority.includes('@'))
    return `must have no user and password in it: ${credentials}`
  return undefined
}

const encode =
  'percent-encode special characters in the user and the password (% is %25, @ is %40, : is %3A, / is %2F, ? is %3F, # is %23)'

function fileProblem(text: string): string | undefined {
  if (text.includes(','))
    return 'has a comma, and is one file: only servers have several hosts. In a path, write file:///PATH with %2C for it'
  if (/[?#]/.test(text)) return 'is a file and takes no parameters: leave out what follows the ? or #'
  if (text.includes(':memory:'))
    return 'must be a file, as in file:./data/spillway.db: a database in memory is lost with the process'
  try {
    if (filePath(text) === '' || /\p{Cc}/u.test(text)) return 'must name a file, as in file:./data/spillway.db'
  } catch {
    return 'must be file:PATH, or file:///PATH with an absolute path, percent-encoded'
  }
  return undefined
}

/** A scheme means the same in any case (RFC 3986, 3.1), but the code that reads the URL compares lower case only. */
export const lowerCaseScheme = (url: string): string => url.replace(/^[^:]*:/, (scheme) => scheme.toLowerCase())

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

/** The path of file:PATH, relative (file:./data/x.db) or absolute (file:///data/x.db). */
export function filePath(url: string): string {
  return url.startsWith('file://') ? fileURLToPath(url) : url.slice('file:'.length)
}

export const isSameFile = (a: string, b: string): boolean =>
  a.startsWith('file:') && b.startsWith('file:') && resolve(filePath(a)) === resolve(filePath(b))

/** One text for one store, however its URL is written; no user, password or parameter. */
export function storeName(url: string): string {
  if (!url.startsWith('file:')) {
    const { list, single } = splitHosts(url)
    return describeUrl(single)
      .replace(/(?<=\/\/)[^/]*/, list.split(',').sort().join())
      .toLowerCase()
  }
  const path = resolve(filePath(url))
  try {
    return realpathSync(path)
  } catch {
    return join(existingFolder(dirname(path)), basename(path))
  }
}

function existingFolder(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path === dirname(path) ? path : join(existingFolder(dirname(path)), basename(path))
  }
}

/** A URL for the log: without user, password and parameters. */
export function describeUrl(text: string): string {
  if (text.startsWith('file:') || text === 'memory:') return text
  const { list, single } = splitHosts(text)
  const { protocol, pathname } = new URL(single)
  return `${protocol}//${list}${pathname.length > 1 ? pathname : ''}`
}

/** Shorter secrets are words that occur in any log: masking them would garble it. */
const secretLength = 6

/** The parts of URLs and other settings that must not appear in a log, as they are written and decoded. */
export function secretsOf(urls: readonly (string | undefined)[], others: readonly (string | undefined)[]): string[] {
  const passwords = urls.flatMap((text) => {
    if (text === undefined) return []
    const { single } = splitHosts(text)
    if (!URL.canParse(single)) return []
    const written = /:\/\/[^/?#]*?:([^/?#]*)@/.exec(text)?.[1] ?? ''
    const { password, search } = new URL(single)
    const values = search
      .slice(1)
      .split('&')
      .flatMap((parameter) => {
        const [, name = '', value = ''] = /^([^=]*)=(.*)$/s.exec(parameter) ?? []
        const decoded = [value, value.replaceAll('+', ' ')].map(decodeURIComponent)
        return /pass|pwd|secret|token|key/i.test(name) ? [value, ...decoded] : []
      })
    return [written, password, decodeURIComponent(password), ...values]
  })
  return [...new Set([...passwords, ...others])].filter(
    (text) => text !== undefined && text.length >= secretLength,
  ) as string[]
}
