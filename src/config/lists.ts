/** Lists of host names and of origins: what has one meaning is brought into the form that is compared with, the rest is refused. */

/** A value in its one form, or what is wrong with it. */
export type Checked = { value: string } | { problem: string }

/** A host name or address, as `new URL(…).hostname` writes it; IPv6 without brackets. */
export function checkHost(text: string): Checked {
  if (text.includes('*')) return { problem: 'must not have a *: list each host name' }
  if (text.includes('://')) return { problem: 'must be a host name alone, as in app.example, without https://' }
  if (/[\s/\\?#@,%]/.test(text)) return { problem: 'must be a host name, as in app.example' }
  const address = /^\[?([\da-f:.]*:[\da-f:.]*:[\da-f:.]*)\]?$/i.exec(text)?.[1]
  if (address === undefined && text.includes(':')) {
    return { problem: 'must be a host name without a port, as in app.example: every port is answered for' }
  }
  const url = `http://${address === undefined ? text.replace(/\.$/, '') : `[${address}]`}`
  if (!URL.canParse(url)) return { problem: 'must be a host name, as in app.example' }
  return { value: new URL(url).hostname.replace(/^\[|\]$/g, '') }
}

/** An origin, as browsers write it into the header: lower case, no default port, no path. */
export function checkOrigin(text: string): Checked {
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
}

/** The items of a list by commas, each in its one form; `fail` is told of each that is wrong, by its place and never by its text. */
export function checkList(text: string, check: (item: string) => Checked, fail: (problem: string) => void): string[] {
  const items = text.split(',').flatMap((item) => item.trim() || [])
  if (text !== '' && items.length === 0) fail('has no items between its commas: list at least one, or leave it out')
  const checked = items.map(check)
  for (const [i, each] of checked.entries()) {
    if ('problem' in each) fail(items.length > 1 ? `(item ${i + 1}) ${each.problem}` : each.problem)
  }
  return [...new Set(checked.flatMap((each) => ('value' in each ? each.value : [])))]
}
