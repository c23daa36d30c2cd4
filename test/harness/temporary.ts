/**
 * Directories of servers and processes that a test throws away. Unless TMPDIR says where, they are in memory if the machine has enough of it: a disk that other
 * programs keep busy was seen to hold up an fsync for more than two seconds, and no test of a promise is about that. What was written
 * survives each way in which a test ends a process; a power cut is told by what was fsynced (power.ts).
 */
import { mkdtemp, readFile, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const inMemory = '/dev/shm'
/** A whole run with its three files at a time was seen to hold 574 MiB. */
const enoughBytes = 4 * 1024 ** 3

/** Makes a directory of its own; the caller removes it. */
export async function temporary(prefix: string): Promise<string> {
  const isInMemory = process.env.TMPDIR === undefined && (await fitsInMemory())
  return await mkdtemp(join(isInMemory ? inMemory : tmpdir(), prefix))
}

async function fitsInMemory(): Promise<boolean> {
  try {
    const [{ bavail, bsize }, memory] = await Promise.all([statfs(inMemory), readFile('/proc/meminfo', 'utf8')])
    const available = Number(/^MemAvailable: +(\d+) kB$/m.exec(memory)?.[1]) * 1024
    return bavail * bsize >= enoughBytes && available >= 2 * enoughBytes
  } catch {
    // No Linux, or a container without it.
    return false
  }
}
