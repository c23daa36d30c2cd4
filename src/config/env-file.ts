/** The file `.env`: read as people's editors write it, and refused where it would be taken for something else than it says. */
import { isUtf8 } from 'node:buffer'
import { parseEnv } from 'node:util'
import { readSmallFile } from './text-file.ts'

export interface EnvFile {
  values: Record<string, string | undefined>
  problems: string[]
}

/** A file that is not there is an empty one. */
export function readEnvFile(path: string, known: (name: string) => boolean): EnvFile {
  const read = readSmallFile(path)
  if ('bytes' in read) return parseEnvFile(read.bytes, known)
  return { values: {}, problems: read.code === 'ENOENT' ? [] : [`.env ${read.problem}`] }
}

export function parseEnvFile(bytes: Buffer, known: (name: string) => boolean): EnvFile {
  const text = decode(bytes)
  if (text === undefined) return { values: {}, problems: ['.env must be a text in UTF-8: save it as that'] }
  return { values: parseEnv(text), problems: misread(text, known) }
}

/** UTF-8, or UTF-16 as PowerShell's `>` writes it; each with or without a byte order mark, UTF-16 with one. */
function decode(bytes: Buffer): string | undefined {
  const mark = bytes.subarray(0, 2).toString('hex')
  if (mark === 'fffe') return new TextDecoder('utf-16le').decode(bytes)
  if (mark === 'feff') return new TextDecoder('utf-16be').decode(bytes)
  if (!isUtf8(bytes) || bytes.includes(0)) return undefined
  return new TextDecoder().decode(bytes)
}

/** Lines of settings that `parseEnv` would skip, or cut at a `#`. Other lines may be parts of a quoted value. */
function misread(text: string, known: (name: string) => boolean): string[] {
  const problems: string[] = []
  for (const [i, line] of text.split(/\r\n|\r|\n/).entries()) {
    const [, name = '', rest = ''] = /^\s*(?:export\s+)?([A-Z_]+)\b(.*)$/.exec(line) ?? []
    if (name === '' || !known(name)) continue
    const [, value] = /^\s*=\s*(.*)$/.exec(rest) ?? []
    if (value === undefined) problems.push(`.env, line ${i + 1}: ${name} must be followed by "=" and its value`)
    else if (/^[^'"`\s#][^\s]*#/.test(value)) {
      problems.push(`.env, line ${i + 1}: the value of ${name} would end at its "#": put it in quotes`)
    }
  }
  return problems
}
