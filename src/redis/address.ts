/**
 * Reads a Redis URL. Invariant: a valid URL has one meaning, and every part of it is used; no message repeats a part that may be a secret.
 * Not the client's own parser: it reads any of the client's settings from the query, also those that keep a save from being sent twice.
 */

export interface RedisAddress {
  host: string
  port: number
  /** The number of the database. */
  db: number
  username: string | undefined
  password: string | undefined
  tls: boolean
  /** The prefix of all keys and channels: `?prefix=` of the URL. */
  prefix: string
}

/** The hash tag of keys that one script or command touches together: a cluster keeps them on one node. Each such key begins with it. */
export const hashTag = ({ prefix }: Pick<RedisAddress, 'prefix'>, name: string): string => `{${prefix}:${name}}`

const expected = 'redis://USER:PASSWORD@HOST:6379/0?prefix=NAME (rediss:// for TLS)'
const encode =
  'percent-encode the special characters of user and password (% is %25, @ is %40, / is %2F, # is %23, ? is %3F)'
/** Without { and }, which mark the hash tag of a key, and without the characters of patterns and lists. */
const prefixFormat = /^[\w.:-]{1,64}$/

/** `name` is the setting's, for the error. Throws if the URL is invalid. */
export function parseRedisUrl(text: string, name = 'QUEUE_URL'): RedisAddress {
  const address = read(text)
  if (typeof address === 'string') throw new Error(`${name} ${address}`)
  return address
}

/** What is wrong with a Redis URL; undefined if nothing is. */
export function redisUrlProblem(text: string): string | undefined {
  const address = read(text)
  return typeof address === 'string' ? address : undefined
}

function read(text: string): RedisAddress | string {
  // The URL parser ignores some of them.
  if (/[\s\p{Cc}]/u.test(text)) return `has a blank or a control character; expected ${expected}`
  if (!/^rediss?:\/\//i.test(text) || !URL.canParse(text))
    return `is not a URL of Redis; expected ${expected}; ${encode}`
  const url = new URL(text)
  const { pathname, hash } = url
  if (/^rediss?:\/\/[^/?#]*[/?#].*@/i.test(text)) return `has an @ behind its host; ${encode}`
  if (hash || text.endsWith('#')) return `has a #; ${encode}`
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (!host) return `names no host; expected ${expected}. A Unix socket cannot be used`
  if (!/^[\w.-]+$/.test(host) && !url.hostname.startsWith('['))
    return `has a host that is no name and no address; expected ${expected}`
  if (url.port === '0') return 'has the port 0; expected one from 1 to 65535'
  const username = decode(url.username)
  const password = decode(url.password)
  if (username === undefined || password === undefined)
    return `has a % that begins no percent-encoded character; ${encode}`
  if (username && !password) return 'has a user without a password; a password alone is written redis://:PASSWORD@HOST'
  const database = /^\/?(0|[1-9]\d{0,8})?$/.exec(pathname)
  if (!database)
    return 'has a path that is no database; expected its number without leading zeros, as in redis://HOST:6379/1'
  const prefix = readPrefix(url.searchParams)
  if ('problem' in prefix) return prefix.problem
  return {
    host,
    port: Number(url.port || 6379),
    db: Number(database[1] ?? 0),
    username: username || undefined,
    password: password || undefined,
    tls: url.protocol === 'rediss:',
    prefix: prefix.value,
  }
}

function readPrefix(parameters: URLSearchParams): { value: string } | { problem: string } {
  for (const key of parameters.keys()) {
    if (key === 'prefix') continue
    // A text that is not a name may be the rest of a password.
    const named = /^[a-z][a-z_-]{0,40}$/i.test(key) ? `the parameter ${key}` : 'a parameter'
    return {
      problem:
        `has ${named}, which is not known; the only one is prefix=NAME, what all keys begin with. ` +
        'The database is the path (/1), TLS is the protocol (rediss://)',
    }
  }
  const [value = 'spillway', ...more] = parameters.getAll('prefix')
  if (more.length > 0) return { problem: 'has the parameter prefix more than once' }
  if (prefixFormat.test(value)) return { value }
  return { problem: 'has a prefix that cannot be used; expected 1 to 64 letters, digits and _ . : -' }
}

/** Undefined if it cannot be decoded. */
function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
