/** The small text files that settings name. The read is bounded: a FIFO, a device or a huge file is refused and does not hold the start up. */
import { isUtf8 } from 'node:buffer'
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs'

const maxBytes = 1024 * 1024

/** The bytes, or what is wrong with the file: the predicate of a sentence about it. */
export type ReadBytes = { bytes: Buffer } | { problem: string; code?: string }
export type ReadText = { text: string } | { problem: string }

/** Follows symbolic links, as Kubernetes mounts secrets. */
export function readSmallFile(path: string): ReadBytes {
  try {
    // Opening a device may have an effect; a file that replaces this one is looked at again once it is open.
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

/** As `readSmallFile` does; a byte order mark is left out. */
export function readTextFile(path: string): ReadText {
  const read = readSmallFile(path)
  if (!('bytes' in read)) return { problem: read.problem }
  if (!isUtf8(read.bytes) || read.bytes.includes(0)) {
    return { problem: 'is not well-formed UTF-8 text: save it as that, binary data as base64 or hex' }
  }
  return { text: new TextDecoder().decode(read.bytes) }
}

const notRegular = { problem: 'is a folder, a FIFO or a device: it must be a regular file' }

/** The size that the system states is no bound: files below /proc have none. */
function readBounded(file: number): ReadBytes {
  const buffer = Buffer.alloc(maxBytes + 1)
  let length = 0
  while (length < buffer.length) {
    const count = readSync(file, buffer, length, buffer.length - length, null)
    if (count === 0) return { bytes: buffer.subarray(0, length) }
    length += count
  }
  return { problem: `has more than ${maxBytes / 1024 / 1024} MiB: it must be smaller` }
}
