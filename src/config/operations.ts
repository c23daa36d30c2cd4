/** PERSISTED_OPERATIONS: the documents that may be sent. */
import { readTextFile } from './text-file.ts'

/** undefined where there is no such list, or it is wrong: see `problems`, which never repeat what is in the file. */
export function readOperations(path: string | undefined, problems: string[]): ReadonlySet<string> | undefined {
  if (path === undefined) return undefined
  const read = readTextFile(path)
  if ('problem' in read) {
    problems.push(`PERSISTED_OPERATIONS names a file that ${read.problem}`)
    return undefined
  }
  try {
    const documents: unknown = JSON.parse(read.text)
    const list: unknown[] = typeof documents === 'object' && documents !== null ? Object.values(documents) : [undefined]
    if (list.every((document) => typeof document === 'string')) return new Set(list.map((document) => document.trim()))
  } catch {
    // Its message repeats what it met.
  }
  problems.push('PERSISTED_OPERATIONS must name a JSON file with a list of documents, or an object of them')
  return undefined
}
