/**
 * Where the text of a setting comes from: the environment or `.env`, as NAME, or a file that NAME_FILE names. Reads of files are bounded: a
 * FIFO, a device or a huge file is refused and does not block the start.
 */
import { isUtf8 } from 'node:buffer'
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { parseEnv } from 'node:util'

const maxBytes = 1024 * 1024

/** The content, or what is wrong with the file: the predicate of a sentence whose subject is the file. */
type Read<T> = T | { problem: string; code?: string }

/** UTF-8 text, without its byte order mark. */
export function readTextFile(path: string): Read<{ text: string }> {
  const read = readBytes(path)
  if ('problem' in read) return read
  if (!isUtf8(read.bytes) || read.bytes.includes(0)) {
    return { problem: 'is not well-formed UTF-8 text: save it as UTF-8, and binary data as base64 or hex' }
  }
  return { text: new TextDecoder().decode(read.bytes) }
}

type Env = Record<string, string | undefined>

export interface Source {
  /** The environment, or the values in .env. */
  variables: Env
  /** For the messages. */
  where: string
  name: string
  /** Whether NAME_FILE is accepted. */
  secret: boolean
}

/** The value that one source has for a setting. A blank one is refused, because it would turn off what the setting asks for; an empty NAME
 *  counts as left out, because that is how compose files and shells leave out a setting. */
export function valueIn({ variables, where, name, secret }: Source, problems: string[]): string | undefined {
  const given = variables[name] || undefined
  const path = (secret && variables[`${name}_FILE`]) || undefined
  if (given !== undefined && path !== undefined) {
    problems.push(`${name} and ${name}_FILE are both set in ${where}: leave one of them out`)
  }
  if (given !== undefined) {
    if (given.trim() === '') problems.push(`${name} is blank: give it a value, or leave it out`)
    return given.trim() || undefined
  }
  if (path === undefined) return undefined
  const read = readTextFile(path)
  if ('problem' in read) problems.push(`${name}_FILE names a file that ${read.problem}`)
  else if (read.text.trim() !== '') return read.text.trim()
  else problems.push(`${name}_FILE names an empty file: write the value into it, or leave it out`)
  return undefined
}

export interface EnvFile {
  values: Env
  problems: string[]
}

/** A missing file counts as an empty one. `known` tells settings from the names of other programs. */
export function readEnvFile(path: string, known: (name: string) => boolean): EnvFile {
  const read = readBytes(path)
  if ('bytes' in read) return parseEnvFile(read.bytes, known)
  return { values: {}, problems: read.code === 'ENOENT' ? [] : [`.env ${read.problem}`] }
}

export function parseEnvFile(bytes: Buffer, known: (name: string) => boolean): EnvFile {
  const text = decodeEnv(bytes)
  if (text === undefined) return { values: {}, problems: ['.env must be a text in UTF-8: save it as that'] }
  return { values: parseEnv(text), problems: misread(text, known) }
}

/** UTF-8, or UTF-16 with a byte order mark, which PowerShell's `>` writes. */
function decodeEnv(bytes: Buffer): string | undefined {
  const mark = bytes.subarray(0, 2).toString('hex')
  if (mark === 'fffe') return new TextDecoder('utf-16le').decode(bytes)
  if (mark === 'feff') return new TextDecoder('utf-16be').decode(bytes)
  if (!isUtf8(bytes) || bytes.includes(0)) return undefined
  return new TextDecoder().decode(bytes)
}

/** Lines of settings that `parseEnv` would skip, or cut at a `#`. Other lines may be parts of a quoted value. */
function misread(text: string, known: (name: string) => boolean): string[] {
  return text.split(/\r\n|\r|\n/).flatMap((line, i) => {
    const [, name = '', rest = ''] = /^\s*(?:export\s+)?([A-Z_]+)\b(.*)$/.exec(line) ?? []
    if (name === '' || !known(name)) return []
    const [, value] = /^\s*=\s*(.*)$/.exec(rest) ?? []
    if (value === undefined) return `.env, line ${i + 1}: ${name} must be followed by "=" and its value`
    if (!/^[^'"`\s#][^\s]*#/.test(value)) return []
    return `.env, line ${i + 1}: the value of ${name} would end at its "#": put it in quotes`
  })
}

/** Follows symbolic links, with which Kubernetes mounts secrets. */
function readBytes(path: string): Read<{ bytes: Buffer }> {
  try {
    // Opening a device may have an effect. The open file is checked again, because another one may have replaced it.
    if (!statSync(path).isFile()) return notRegular
    const file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    try {
      return fstatSync(file).isFile() ? readBounded(file) : notRegular
    } finally {
      closeSync(file)
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    return { problem: `cannot be read: ${code}`, code }
  }
}

const notRegular = { problem: 'is a folder, a FIFO or a device: it must be a regular file' }

/** The size that the system reports is no bound: files below /proc have none. */
function readBounded(file: number): Read<{ bytes: Buffer }> {
  const buffer = Buffer.alloc(maxBytes + 1)
  let length = 0
  while (length < buffer.length) {
    const count = readSync(file, buffer, length, buffer.length - length, null)
    if (count === 0) return { bytes: buffer.subarray(0, length) }
    length += count
  }
  return { problem: `has more than ${maxBytes / 1024 / 1024} MiB: it must be smaller` }
}
