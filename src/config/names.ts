/** Names in the environment and in .env that are no settings: the misspelt ones are refused, those of other programs ignored. */

type Variables = Record<string, string | undefined>

export interface Names {
  env: Variables
  /** The values in .env. */
  file: Variables
  settings: readonly string[]
  /** Settings for which NAME_FILE may name a file. */
  secrets: readonly string[]
}

/** Adds a problem for each name that must be a misspelt setting. Returns notes about names of other programs. */
export function checkNames({ env, file, settings, secrets }: Names, problems: string[]): string[] {
  const known = [...settings, ...secrets.map((name) => `${name}_FILE`)]
  const others = (variables: Variables) =>
    Object.keys(variables).filter((name) => !known.includes(name) && name !== 'NODE_ENV')
  for (const [where, variables] of [
    ['', env],
    [' in .env', file],
  ] as const) {
    for (const name of others(variables)) {
      const suggested = suggestionsFor(name, known)
      if (suggested.length > 0) {
        problems.push(`${name}${where} is no setting of Spillway; did you mean ${suggested.join(' or ')}?`)
      } else if (settings.some((setting) => setting.length >= longName && name === `${setting}_FILE`)) {
        problems.push(`${name}${where} has no effect: only ${secrets.join(', ')} may be read from files`)
      }
    }
  }
  const ignored = (where: string, names: readonly string[]) =>
    names.length > 0 ? [`${where} names that are no settings of Spillway; they are ignored: ${listNames(names)}`] : []
  const addresses = settings.filter((name) => isServiceAddress(name, env[name]))
  return [
    ...ignored('.env has', others(file)),
    ...ignored('the environment has', [...others(env).filter(looksLikeOurs), ...addresses]),
  ]
}

/** Kubernetes puts the address of each service into the environment; a service may be called "worker" or "queue". */
const kubernetes = /_SERVICE_(HOST|PORT(_.*)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?$/
/** Shorter names (HOST, PORT, AUTH) resemble names of other programs: HOME, PATH, POST. */
const longName = 8
const nearMiss = 2
const printable = /^[A-Za-z_][\w.-]{0,80}$/
const listed = 20

/** Kubernetes' own variables: `WORKER_PORT=tcp://10.0.0.1:80` is the address of a service called "worker". */
export const isServiceAddress = (name: string, value: string | undefined): boolean =>
  kubernetes.test(name) && /^(tcp|udp|sctp):\/\//.test(value ?? '')

/** The settings that an unknown name resembles so closely that it must be misspelt; empty: it belongs to another program. */
function suggestionsFor(name: string, known: readonly string[]): string[] {
  if (kubernetes.test(name)) return []
  const upper = name.toUpperCase()
  const close = known.filter((setting) => {
    if (setting.length < longName) return upper === setting || isSwapped(upper, setting) || isDoubled(upper, setting)
    return editDistance(upper, setting) <= nearMiss
  })
  if (close.length === 0) return []
  const begun = known.filter((setting) => setting.startsWith(`${upper}_`) && !setting.endsWith('_FILE'))
  return [...new Set([...close, ...begun])]
}

/** Whether a name that is no setting begins like one: a note says that it has no effect. */
const looksLikeOurs = (name: string): boolean =>
  !kubernetes.test(name) && /^(QUEUE|CACHE|CONTENT|EVENTS|WORKER|AUTH|DATABASE|OTEL|SPILLWAY)_/.test(name)

/** A list of names for a sentence: at most `listed`, and nothing that could be a value. */
function listNames(names: readonly string[]): string {
  const shown = names.filter((name) => printable.test(name))
  const more = names.length - Math.min(shown.length, listed)
  return [...shown.slice(0, listed), ...(more > 0 ? [`${more} more`] : [])].join(', ')
}

/** Two neighbouring letters are swapped: PROT. */
function isSwapped(name: string, setting: string): boolean {
  for (let i = 0; i + 1 < setting.length; i++) {
    if (name === setting.slice(0, i) + setting[i + 1] + setting[i] + setting.slice(i + 2)) return name !== setting
  }
  return false
}

/** One letter is there twice: PORTT. */
function isDoubled(name: string, setting: string): boolean {
  return [...setting].some((letter, i) => name === setting.slice(0, i) + letter + setting.slice(i))
}

/** The Levenshtein distance, one row at a time; more than `nearMiss` where it cannot be less. */
function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > nearMiss) return nearMiss + 1
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    }
    row = next
  }
  return row[b.length]!
}
