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

export interface Import {
  /** From the root for files of ours, else the name as it stands; `computed: …` where the text does not tell. */
  name: string
  /** Erased: only types are imported. */
  type: boolean
}

/** What a file imports, by any kind of import, or loads by its URL. */
export function importsOf({ path, text }: SourceFile): Import[] {
  const code = withoutComments(text)
  const imports = new Map<string, boolean>()
  for (const { pattern, always } of patterns) {
    for (const match of code.matchAll(pattern)) {
      const name =
        always || match[1]!.startsWith('.') ? relative(root, resolve(root, dirname(path), match[1]!)) : match[1]!
      const type = /^\s*(import|export)\s+type\b/.test(match[0])
      imports.set(name, type && (imports.get(name) ?? true))
    }
  }
  for (const [call] of code.matchAll(/\b(?:import|require)\s*\(\s*(?!['"])[^)]*\)/g))
    imports.set(`computed: ${call}`, false)
  return [...imports].map(([name, type]) => ({ name, type }))
}

/** `always`: the name is relative, with or without a dot in front. */
const patterns = [
  { pattern: /^[ \t]*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm },
  { pattern: /^[ \t]*import\s*['"]([^'"]+)['"]/gm },
  { pattern: /\b(?:import|require)\s*\(\s*['"]([^'"]+)['"]/g },
  { pattern: /\bnew\s+URL\(\s*['"](?!\w+:)([^'"]+)['"]\s*,\s*import\.meta\.url/g, always: true },
]

/** The circles in a graph: sets of at least two nodes, each of which can be reached from each other one. */
export function circlesIn(graph: ReadonlyMap<string, Iterable<string>>): string[][] {
  const reachable = new Map([...graph.keys()].map((node) => [node, reachableFrom(node)]))
  const found = new Set<string>()
  return [...graph.keys()].flatMap((node) => {
    if (found.has(node)) return []
    const circle = [...graph.keys()].filter(
      (other) => reachable.get(node)!.has(other) && reachable.get(other)!.has(node),
    )
    for (const each of circle) found.add(each)
    return circle.length > 1 ? [circle] : []
  })

  function reachableFrom(node: string): Set<string> {
    const seen = new Set<string>(graph.get(node))
    for (const next of seen) for (const further of graph.get(next) ?? []) seen.add(further)
    return seen
  }
}

/** Strings are kept, since names stand in them, and since "//" in them begins no comment. */
export function withoutComments(text: string): string {
  const token = /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\/\/[^\n]*|\/\*[\s\S]*?\*\//g
  return text.replace(token, (match) => (/^\/[/*]/.test(match) ? ' ' : match))
}
