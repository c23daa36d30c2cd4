/**
 * Writes to stdout or stderr without blocking. Invariant: whatever happens at the other end (a full disk, a pipe that is not read, a
 * terminal stopped with Ctrl-S), `write` returns at once, at most `maxBytes` wait in memory, and lines that do not fit are counted.
 */
import { fstatSync, write } from 'node:fs'

/** Writes a chunk, or its first part, and calls back with the number of bytes written. */
type Sink = (chunk: Buffer, done: (error: Error | null | undefined, bytes: number) => void) => void

export interface OutputOptions {
  maxBytes?: number
  retryMs?: number
}

export class Output {
  readonly #fd: 1 | 2
  readonly #maxBytes: number
  readonly #retryMs: number
  #sink: Sink
  #waiting: Buffer[] = []
  #bytes = 0
  #writing = false
  #dropped = 0
  #unreported = 0
  #idle: (() => void)[] = []
  /** Called with the number of lines dropped, once writing works again. */
  onRecovered: (dropped: number) => void = () => {}

  constructor(fd: 1 | 2, { maxBytes = 1_048_576, retryMs = 100 }: OutputOptions = {}) {
    this.#fd = fd
    this.#maxBytes = maxBytes
    this.#retryMs = retryMs
    this.#sink = isFile(fd) ? this.#toFile : this.#toStream()
  }

  /** Lines dropped so far. */
  get dropped(): number {
    return this.#dropped
  }

  write(line: string): void {
    const chunk = Buffer.from(line)
    if (this.#bytes + chunk.length > this.#maxBytes) {
      this.#dropped += 1
      this.#unreported += 1
      return
    }
    this.#bytes += chunk.length
    this.#waiting.push(chunk)
    if (!this.#writing) this.#next()
  }

  /** Resolves when everything is written, or after that time. */
  async flush(withinMs: number): Promise<void> {
    if (this.#bytes === 0) return
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#idle.push(resolve)
      timer = setTimeout(resolve, withinMs)
    })
    clearTimeout(timer)
  }

  #next(): void {
    if (this.#unreported > 0 && this.#bytes <= this.#maxBytes / 2) {
      const dropped = this.#unreported
      this.#unreported = 0
      this.#writing = true
      this.onRecovered(dropped)
    }
    const chunk = this.#waiting.length > 1 ? Buffer.concat(this.#waiting) : this.#waiting[0]
    this.#waiting = []
    this.#writing = chunk !== undefined
    if (chunk) this.#send(chunk)
    else for (const resolve of this.#idle.splice(0)) resolve()
  }

  #send(chunk: Buffer): void {
    this.#sink(chunk, (error, bytes) => {
      const rest = error ? chunk : chunk.subarray(bytes)
      this.#bytes -= chunk.length - rest.length
      if (rest.length === 0) this.#next()
      // A full disk may get room again, and a named pipe another reader. The timer does not keep the process alive.
      else if (error) setTimeout(() => this.#send(rest), this.#retryMs).unref()
      else this.#send(rest)
    })
  }

  readonly #toFile: Sink = (chunk, done) => write(this.#fd, chunk, (error, bytes) => done(error, bytes))

  /** Pipes, sockets and terminals, through libuv: Node makes them non-blocking, terminals only on request. */
  #toStream(): Sink {
    const stream = this.#fd === 1 ? process.stdout : process.stderr
    const { _handle: handle } = stream as { _handle?: { setBlocking?(on: boolean): void } }
    if (stream.isTTY) handle?.setBlocking?.(false)
    // A stream never recovers from an error; its file descriptor may.
    stream.on('error', () => {
      this.#sink = this.#toFile
    })
    return (chunk, done) => void stream.write(chunk, (error) => done(error, chunk.length))
  }
}

function isFile(fd: number): boolean {
  const stat = fstatSync(fd)
  return stat.isFile() || (stat.isCharacterDevice() && !isTerminal(fd))
}

function isTerminal(fd: number): boolean {
  return (fd === 1 ? process.stdout : process.stderr).isTTY === true
}
