/** Outputs that take nothing: what a log may meet. Each gives a descriptor for the stdout of a process, and can be made to work again. */
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  constants,
  createReadStream,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface StuckOutput {
  /** For the child; blocking, as a shell would hand it on. */
  readonly fd: number
  /** Makes room, and returns what the child writes from then on, as it comes. */
  release(): { readonly text: string }
  close(): void
}

const kinds = { 'a full disk': fullDisk, 'a pipe that is not read': unreadPipe, 'a closed pipe': closedPipe }
export const stuckOutputs = Object.keys(kinds) as (keyof typeof kinds)[]
export const stuckOutput = (kind: keyof typeof kinds): StuckOutput => kinds[kind]()

function folder(): string {
  return mkdtempSync(join(tmpdir(), 'spillway-output-'))
}

/** A file system of 64 KB, or where this user may not mount one, /dev/full. */
function fullDisk(): StuckOutput {
  const dir = folder()
  let mounted = true
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', dir], { stdio: 'pipe' })
  } catch {
    mounted = false
  }
  const path = mounted ? join(dir, 'log') : '/dev/full'
  const fd = openSync(path, 'a')
  if (mounted) {
    try {
      writeFileSync(join(dir, 'ballast'), Buffer.alloc(1_000_000))
    } catch {
      // That was the aim.
    }
  }
  return {
    fd,
    release() {
      if (!mounted) throw new Error('only root can make a disk that has room again')
      rmSync(join(dir, 'ballast'))
      return follow(path)
    },
    close() {
      closeSync(fd)
      if (mounted) execFileSync('umount', ['-l', dir])
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** A named pipe, full. */
function unreadPipe(): StuckOutput {
  const { O_RDONLY, O_WRONLY, O_NONBLOCK } = constants
  const dir = folder()
  const path = join(dir, 'pipe')
  execFileSync('mkfifo', [path])
  const reader = openSync(path, O_RDONLY | O_NONBLOCK)
  const filler = openSync(path, O_WRONLY | O_NONBLOCK)
  for (const size of [65_536, 4_096, 1]) {
    try {
      for (;;) writeSync(filler, Buffer.alloc(size, '\n'))
    } catch {
      // Full for pieces of that size.
    }
  }
  closeSync(filler)
  const fd = openSync(path, O_WRONLY)
  let reading = true
  return {
    fd,
    release() {
      const seen = { text: '' }
      const buffer = Buffer.alloc(65_536)
      const read = () => {
        if (!reading) return
        try {
          seen.text += buffer.toString('utf8', 0, readSync(reader, buffer))
        } catch {
          // Nothing there now.
        }
        setTimeout(read, 5)
      }
      read()
      return seen
    },
    close() {
      reading = false
      closeSync(fd)
      closeSync(reader)
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** A named pipe whose reader is gone, until another one comes. */
function closedPipe(): StuckOutput {
  const { O_RDONLY, O_WRONLY, O_NONBLOCK } = constants
  const dir = folder()
  const path = join(dir, 'pipe')
  execFileSync('mkfifo', [path])
  const reader = openSync(path, O_RDONLY | O_NONBLOCK)
  const fd = openSync(path, O_WRONLY)
  closeSync(reader)
  return {
    fd,
    release: () => follow(path),
    close() {
      closeSync(fd)
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

function follow(path: string): { readonly text: string } {
  const seen = { text: '' }
  createReadStream(path, { encoding: 'utf8' })
    .on('data', (chunk) => {
      seen.text += chunk
    })
    .on('error', () => {})
  return seen
}
