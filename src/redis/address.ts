/**
 * Reads a Redis URL: one server, the Sentinels of a master, or nodes of a cluster. Invariant: a valid URL has one meaning, and every part of
 * it is used; no message repeats a part that may be a secret.
 * Not the client's own parser: it reads any of the client's settings from the query, also those that keep a save from being sent twice.
 */
import { type Host, namesHostBeforeUser, readHosts, splitHosts } from '../model/hosts.ts'

export interface RedisAddress {
  /** The setting that the URL is of. */
  setting: string
  kind: Kind
  /** The server; the Sentinels; nodes of the cluster. */
  hosts: Host[]
  /** What the Sentinels call the master. */
  master: string | undefined
  /** The user and password of the Sentinels, from the parameters; those of Redis itself stand before the hosts. */
  sentinel: Credentials
  redis: Credentials
  /** The number of the database. */
  db: number
  tls: boolean
  /** The prefix of all keys and channels: `?prefix=` of the URL. */
  prefix: string
}

export interface Credentials {
  username: string | undefined
  password: string | undefined
}

export type Kind = 'single' | 'sentinel' | 'cluster'

/** The hash tag of keys that one script or command touches together: a cluster keeps them on one node. Each such key begins with it. */
export const hashTag = ({ prefix }: Pick<RedisAddress, 'prefix'>, name: string): string => `{${prefix}:${name}}`

/** With their colon. */
export const redisProtocols = ['', '+sentinel', '+cluster'].flatMap((kind) => [`redis${kind}:`, `rediss${kind}:`])

const forms = {
  single: { port: 6379, expected: 'redis://USER:PASSWORD@HOST:6379/0?prefix=NAME (rediss:// for TLS)' },
  sentinel: {
    port: 26379,
    expected:
      'redis+sentinel://USER:PASSWORD@HOST:26379,HOST:26379/MASTER?prefix=NAME (rediss+sentinel:// for TLS; ' +
      'MASTER/1 for database 1; sentinelUser= and sentinelPassword= for the Sentinels)',
  },
  cluster: {
    port: 6379,
    expected: 'redis+cluster://USER:PASSWORD@HOST:6379,HOST:6379?prefix=NAME (rediss+cluster:// for TLS)',
  },
} as const

const encode =
  'percent-encode the special characters of user and password (% is %25, @ is %40, / is %2F, # is %23, ? is %3F)'
/** Without { and }, which mark the hash tag of a key, and without the characters of patterns and lists. */
const prefixFormat = /^[\w.:-]{1,64}$/
/** What a Sentinel permits. */
const masterFormat = /^[\w.-]{1,100}$/

/** `name` is the setting's, for the error. Throws if the URL is invalid. */
export function parseRedisUrl(text: string, name = 'QUEUE_URL'): RedisAddress {
  const address = read(text)
  if (typeof address === 'string') throw new Error(`${name} ${address}`)
  return { setting: name, ...address }
}

/** What is wrong with a Redis URL; undefined if nothing is. */
export function redisUrlProblem(text: string): string | undefined {
  const address = read(text)
  return typeof address === 'string' ? address : undefined
}

function read(text: string): Omit<RedisAddress, 'setting'> | string {
  const [, secure, suffix = ''] = /^redis(s?)(\+sentinel|\+cluster)?:\/\//i.exec(text) ?? []
  const kind = suffix === '' ? 'single' : (suffix.slice(1).toLowerCase() as Kind)
  const { expected, port } = forms[kind]
  // The URL parser ignores some of them.
  if (/[\s\p{Cc}]/u.test(text)) return `has a blank or a control character; expected ${expected}`
  const { list, single } = splitHosts(text)
  if (secure === undefined) return `is not a URL of Redis; expected ${expected}; ${encode}`
  if (/:\/\/[^/?#]*[/?#].*@/.test(text)) return `has an @ behind its host; ${encode}`
  if (text.includes('#')) return `has a #; ${encode}`
  if (/:\/\/[^/?#]*@[^/?#]*,[^/?#]*@/.test(text))
    return `has an @ before and behind a comma: its hosts share one user and password; expected ${expected}; ${encode}`
  if (namesHostBeforeUser(text))
    return `has a comma before its @: user and password stand once, before all hosts, and a comma in them is %2C; expected ${expected}`
  if (list === '') return `has no host; expected ${expected}. A Unix socket cannot be used`
  if (kind === 'single' && list.includes(','))
    return `has several hosts, and redis:// takes one; expected ${forms.sentinel.expected}, or ${forms.cluster.expected}`
  const hosts = readHosts(list, port)
  if (typeof hosts === 'string') return hosts
  if (!URL.canParse(single)) return `is not a URL of Redis; expected ${expected}; ${encode}`
  const url = new URL(single)
  const [username, password] = [decode(url.username), decode(url.password)]
  if (username === undefined || password === undefined)
    return `has a % that begins no percent-encoded character; ${encode}`
  if (username && !password) return 'has a user without a password; a password alone is written redis://:PASSWORD@HOST'
  const path = readPath(kind, url.pathname)
  if (typeof path === 'string') return path
  const parameters = readParameters(kind, url.search)
  if (typeof parameters === 'string') return parameters
  const { prefix = 'spillway', sentinelUser, sentinelPassword } = parameters
  return {
    kind,
    hosts,
    ...path,
    sentinel: { username: sentinelUser, password: sentinelPassword },
    redis: { username: username || undefined, password: password || undefined },
    tls: secure !== '',
    prefix,
  }
}

function readPath(kind: Kind, path: string): { master: string | undefined; db: number } | string {
  if (kind === 'cluster') {
    if (path.length > 1) return `has a path, and a cluster has no databases; expected ${forms.cluster.expected}`
    return { master: undefined, db: 0 }
  }
  const [, master, number] = (kind === 'single' ? /^()\/?(.*)$/ : /^\/?([^/]*)\/?(.*)$/).exec(path)!
  if (kind === 'sentinel' && !masterFormat.test(master!))
    return `has no name of a master that a Sentinel could know; expected ${forms.sentinel.expected}`
  if (!/^(0|[1-9]\d{0,8})?$/.test(number!)) {
    const example = kind === 'single' ? 'redis://HOST:6379/1' : 'redis+sentinel://HOST:26379/MASTER/1'
    return `has a path that is no database; expected its number without leading zeros, as in ${example}`
  }
  return { master: master || undefined, db: Number(number) }
}

type Parameters = { prefix?: string; sentinelUser?: string; sentinelPassword?: string }

/** Not by URLSearchParams, for which a + in a password is a blank. */
function readParameters(kind: Kind, search: string): Parameters | string {
  const known = kind === 'sentinel' ? ['prefix', 'sentinelUser', 'sentinelPassword'] : ['prefix']
  const found: Record<string, string> = {}
  for (const parameter of search.slice(1).split('&')) {
    if (parameter === '') continue
    const [, key = '', written = ''] = /^([^=]*)=?(.*)$/s.exec(parameter) ?? []
    if (!known.includes(key)) return unknown(kind, key)
    if (key in found) return `has the parameter ${key} more than once`
    const value = decode(written)
    if (!value && key !== 'prefix') return `has the parameter ${key} without a value that can be decoded; ${encode}`
    found[key] = value ?? ''
  }
  const { prefix, sentinelUser, sentinelPassword } = found
  if (prefix !== undefined && !prefixFormat.test(prefix))
    return 'has a prefix that cannot be used; expected 1 to 64 letters, digits and _ . : -'
  if (sentinelUser && !sentinelPassword)
    return 'has a sentinelUser without a sentinelPassword; expected both, or the password alone'
  return found
}

function unknown(kind: Kind, key: string): string {
  // A text that is not a name may be the rest of a password.
  const named = /^[a-z][a-z_-]{0,40}$/i.test(key) ? `the parameter ${key}` : 'a parameter'
  const known = kind === 'sentinel' ? 'prefix=NAME, sentinelUser= and sentinelPassword=' : 'prefix=NAME'
  const elsewhere = {
    single: 'The database is the path (/1), TLS is the protocol (rediss://)',
    sentinel: 'The database is in the path (/MASTER/1), TLS is the protocol (rediss+sentinel://)',
    cluster: 'TLS is the protocol (rediss+cluster://)',
  }
  return `has ${named}, which is not known; expected ${known}: all keys begin with the prefix. ${elsewhere[kind]}`
}

/** Undefined if it cannot be decoded. */
function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
