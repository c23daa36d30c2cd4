/**
 * What a TypeScript file names of other files, for the tests that hold the layout. Invariant: a way to name a file that cannot be read
 * from the text (a computed import) is reported instead of passed over.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../../', import.meta.url))

export interface SourceFile {
  /** From the root, with forward slashes. */
  path: string
  text: string
}

/** Every file below a folder of the repository, in order. */
export function filesUnder(folder: string, pattern = /\.ts$/): SourceFile[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && pattern.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ path: relative(root, path), text: readFileSync(path, 'utf8') }))
    .sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** What a file imports, by any kind of import, or loads by its URL: paths from the root for files of ours, else the name as it stands. */
export function importsOf({ path, text }: SourceFile): string[] {
  const code = withoutComments(text)
  const names: string[] = []
  for (const pattern of patterns) for (const match of code.matchAll(pattern)) names.push(match[1]!)
  for (const [call] of code.matchAll(/\b(?:import|require)\s*\(\s*(?!['"])[^)]*\)/g)) names.push(`computed: ${call}`)
  return [...new Set(names)].map((name) =>
    name.startsWith('.') ? relative(root, resolve(root, dirname(path), name)) : name,
  )
}

const patterns = [
  /^[ \t]*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm,
  /^[ \t]*import\s*['"]([^'"]+)['"]/gm,
  /\b(?:import|require)\s*\(\s*['"]([^'"]+)['"]/g,
  /\bnew\s+URL\(\s*['"](\.[^'"]+)['"]\s*,\s*import\.meta\.url/g,
]

/** Strings are kept, since names stand in them, and since "//" in them begins no comment. */
export function withoutComments(text: string): string {
  const token = /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\/\/[^\n]*|\/\*[\s\S]*?\*\//g
  return text.replace(token, (match) => (/^\/[/*]/.test(match) ? ' ' : match))
}
