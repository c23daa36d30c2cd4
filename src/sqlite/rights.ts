/**
 * The rights of the files: only the user that Spillway runs as may read the data. Invariant: a file that Spillway makes has mode 0600 and a folder
 * 0700, whatever the umask; SQLite gives its log and its index the mode of the database. The mode of an existing
 * folder is not changed.
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { FileUnusable } from './fault.ts'

/** Creates the folder and its parents. One at a time: Node's recursive mkdir never ends below /proc, where none can be created. */
export function makeFolder(folder: string): void {
  try {
    for (const missing of missingFolders(resolve(folder))) makeOne(missing)
    if (!statSync(folder).isDirectory()) throw new Error('something that is not a folder has its name')
  } catch (error) {
    throw new FileUnusable(`its folder ${folder} cannot be made: ${(error as Error).message}`, { cause: error })
  }
}

/** Returns the folders that do not exist, the outermost first. */
function missingFolders(folder: string): string[] {
  const missing: string[] = []
  for (let path = folder; !existsSync(path) && path !== dirname(path); path = dirname(path)) missing.unshift(path)
  return missing
}

function makeOne(folder: string): void {
  try {
    mkdirSync(folder, { mode: 0o700 })
  } catch (error) {
    // Another process may have created it in between.
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return
    throw error
  }
  // A umask may have removed rights of the owner.
  chmodSync(folder, 0o700)
}

/** Creates an empty file, because SQLite would give it the mode that the umask leaves of 0644. The file must not exist: closing a file that
 *  SQLite has open drops its locks. */
export function makeFile(path: string): void {
  closeSync(openSync(path, 'a', 0o600))
  chmodSync(path, 0o600)
}

/** Removes the rights of other users from files of a former start. Notes each such file, and each that belongs to another user. */
export function tighten(paths: readonly string[], note: (text: string) => void): void {
  if (process.platform === 'win32') return
  for (const path of paths) {
    const mode = statSync(path, { throwIfNoEntry: false })?.mode
    if (mode === undefined || (mode & 0o077) === 0) continue
    const was = (mode & 0o777).toString(8).padStart(4, '0')
    try {
      chmodSync(path, 0o600)
      note(`${path} had mode ${was}: other users could read it; it has 0600 now`)
    } catch {
      note(`${path} has mode ${was} and belongs to another user: other users can read it; give it mode 0600`)
    }
  }
}
