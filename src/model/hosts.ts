/**
 * The hosts of a URL with several, as in mysql://user:password@a:3306,b:3306/name, which URL does not parse. Invariant: no message repeats
 * a part of the URL, which may be a secret.
 */

export interface Host {
  /** A name or an address; IPv6 without brackets. */
  host: string
  port: number
}

/** The list of hosts as it is written, and the URL with the first of them alone, which URL can parse. No list: a text that has no `//`. */
export function splitHosts(text: string): { list: string; single: string } {
  const [, head = '', authority = '', rest = ''] = /^([^:/?#]+:\/\/)([^/?#]*)(.*)$/s.exec(text) ?? []
  if (!head) return { list: '', single: text }
  const at = authority.lastIndexOf('@') + 1
  const list = authority.slice(at)
  return { list, single: head + authority.slice(0, at) + list.split(',', 1)[0] + rest }
}

/** Whether a host stands before the user, as in `//a,user:password@b` and `//a:3306,user:password@b`: URL takes it for a part of them. */
export const namesHostBeforeUser = (text: string): boolean =>
  /:\/\/(?:[^/?#@:,]*,[^/?#]*@|[^/?#@:,]*:\d{1,5},[^/?#@]*:[^/?#]*@)/.test(text)

/** The hosts in their order, or what is wrong with the list. */
export function readHosts(list: string, defaultPort: number): Host[] | string {
  const texts = list.split(',')
  const subject = (i: number) => (texts.length === 1 ? 'a host that' : `a list of hosts whose number ${i + 1}`)
  const hosts: Host[] = []
  for (const [i, text] of texts.entries()) {
    const host = readHost(text, defaultPort)
    if (typeof host === 'string') return `has ${subject(i)} ${host}; expected ${form}`
    const same = hosts.findIndex((other) => addressOf(other) === addressOf(host))
    if (same >= 0)
      return `has a list of hosts whose numbers ${same + 1} and ${i + 1} are the same; expected each once: ${form}`
    hosts.push(host)
  }
  return hosts
}

/** A host for the log, as a URL writes it. */
export const addressOf = ({ host, port }: Host): string =>
  `${host.includes(':') ? `[${host}]` : host.toLowerCase()}:${port}`

const form = 'HOST:PORT, or several with commas between them, an IPv6 address in brackets'

function readHost(text: string, defaultPort: number): Host | string {
  if (text === '' || text.startsWith(':')) return 'is blank'
  const [, name = '', port] = /^(\[[^\]]*\]|[^:[\]]*)(?::(.*))?$/s.exec(text) ?? []
  if (name === '') return 'is neither a name nor an address'
  if (port !== undefined && !(/^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535))
    return 'is not followed by a port from 1 to 65535'
  const number = port === undefined ? defaultPort : Number(port)
  if (!name.startsWith('['))
    return /^[\w.-]+$/.test(name) ? { host: name, port: number } : 'is neither a name nor an address'
  const url = `http://${name}`
  if (!URL.canParse(url)) return 'has brackets and is no IPv6 address'
  return { host: new URL(url).hostname.slice(1, -1), port: number }
}
