/**
 * Reads a MySQL URL, with one host or several. Invariant: every part of it is used, or refused; no message repeats a part that may be a
 * secret. Not the driver's own parser: its errors hold the whole URL, with the password.
 */
import type { ConnectionConfig } from 'mariadb'
import { type Host, namesHostBeforeUser, readHosts, splitHosts } from '../model/hosts.ts'

export interface MysqlAddress {
  /** The servers of one database; the first is preferred. */
  hosts: Host[]
  /** What is the same for all of them. */
  config: ConnectionConfig & { user: string; database: string }
}

const expected =
  'mysql://USER:PASSWORD@HOST:3306/DATABASE, or several hosts as in mysql://USER:PASSWORD@HOST1:3306,HOST2:3306/DATABASE'
const encode =
  'percent-encode the special characters of user and password (% is %25, @ is %40, : is %3A, / is %2F, a comma is %2C)'

/** `name` is the setting's, for the error. Throws if the URL is invalid. */
export function parseMysqlUrl(text: string, name: string): MysqlAddress {
  const address = read(text)
  if (typeof address === 'string') throw new Error(`${name} ${address}`)
  return address
}

/** What is wrong with a MySQL URL; undefined if nothing is. */
export function mysqlUrlProblem(text: string): string | undefined {
  const address = read(text)
  return typeof address === 'string' ? address : undefined
}

function read(text: string): MysqlAddress | string {
  const { list, single } = splitHosts(text)
  const hosts = readHosts(list, 3306)
  if (typeof hosts === 'string') return hosts
  if (!/^mysql:\/\//i.test(text) || !URL.canParse(single))
    return `is not a URL of MySQL; expected ${expected}; ${encode}`
  const url = new URL(single)
  // In a list of whole URLs without their paths, all but the last host would be read as a part of the password.
  if (/:\/\/[^/?#]*@[^/?#]*,[^/?#]*@/.test(text))
    return `has an @ before a comma: the hosts of a list share one user and password, expected ${expected}; ${encode}`
  if (namesHostBeforeUser(text))
    return `has a comma before its @: user and password stand once, before all hosts, and a comma in them is %2C; expected ${expected}`
  const [, database] = /^\/([^/]+)$/.exec(url.pathname) ?? []
  if (database === undefined) return `must name one database behind the host, as in mysql://HOST:3306/spillway`
  if (database.includes(','))
    return `has a comma behind its hosts; expected ${expected}, all hosts before the database. A comma in its name is %2C`
  try {
    const config: MysqlAddress['config'] = {
      user: decodeURIComponent(url.username) || 'root',
      database: decodeURIComponent(database),
    }
    if (url.password) config.password = decodeURIComponent(url.password)
    const problem = addParameters(config, url.searchParams, hosts.length)
    return problem ?? { hosts, config }
  } catch {
    return `has a % that begins no percent-encoded character; ${encode}`
  }
}

/** Returns what is wrong, if anything is. */
function addParameters(config: ConnectionConfig, parameters: URLSearchParams, hosts: number): string | undefined {
  for (const [key, value] of parameters) {
    if (key === 'ssl' && (value === 'true' || value === 'false')) {
      if (value === 'true') config.ssl = true
    } else if (key === 'sslaccept' && (value === 'strict' || value === 'accept_invalid_certs')) {
      config.ssl = { rejectUnauthorized: value === 'strict' }
    } else if (key === 'socket' && value) {
      if (hosts > 1) return 'has several hosts and the parameter socket, which is one server; leave one of them out'
      config.socketPath = value
    } else {
      // A text that is not a name may be the rest of a password.
      const named = /^[a-z][a-z_-]{0,40}$/i.test(key) ? `the parameter ${key}` : 'a parameter'
      return (
        `has ${named}, which is not supported with this value; ` +
        'supported are ssl=true, sslaccept=strict or accept_invalid_certs, socket=/path/of/the.sock'
      )
    }
  }
  return undefined
}
