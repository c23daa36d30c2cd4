/**
 * Bounds on reads: rows, receipts and bytes of one operation, and bytes of all reads at once (Bytes.out). Invariant: rows are read only
 * while their bytes are reserved, each row counted with the largest size that it may have.
 */
import { badInput } from '../model/error.ts'
import type { Bytes } from './bytes.ts'

/** Of all pages of one operation: two full ones. */
const rowsOfOperation = 200
/** Of all lists of receipts of one operation. Their rows do not count as rows of pages. */
export const receiptsOfOperation = 1_000
/** Of all pages of one operation, and of the rows of its receipts, as JSON: a full page of the longest contents (CONTENT_MAX_BYTES' default) is less. */
export const bytesOfOperation = 8 * 1024 * 1024
/** A page takes several times its size while it is read, parsed and rendered: in buffers, as rows, as text. */
const pageFactor = 4

interface Operation {
  rows: number
  receipts: number
  bytes: number
  /** It asked for too many rows: none of its pages is returned, although each root field could fail by itself. */
  refused: boolean
}

export class Reads {
  readonly bytes: Bytes
  /** By the object that an operation passes with each of its reads. */
  readonly #operations = new WeakMap<object, Operation>()

  constructor({ bytes }: { bytes: Bytes }) {
    this.bytes = bytes
  }

  /** Counts rows that an operation asks for. Throws BAD_USER_INPUT if they are too many. */
  ask(of: object, rows: number): void {
    const operation = this.#operation(of)
    operation.rows += rows
    operation.refused = operation.rows > rowsOfOperation
    if (operation.refused) throw tooMany()
  }

  /** Counts receipts that an operation asks for. Throws BAD_USER_INPUT if they are too many. */
  askReceipts(of: object, receipts: number): void {
    const operation = this.#operation(of)
    operation.receipts += receipts
    if (operation.receipts > receiptsOfOperation)
      throw badInput(`one operation may ask for ${receiptsOfOperation} receipts at most, got ${operation.receipts}`)
  }

  /** Counts bytes that were read for an operation. Throws BAD_USER_INPUT if they are too many, or its rows are. */
  got(of: object, bytes: number): void {
    const operation = this.#operation(of)
    if (operation.refused) throw tooMany()
    operation.bytes += bytes
    if (operation.bytes > bytesOfOperation) throw tooLarge()
  }

  #operation(of: object): Operation {
    let operation = this.#operations.get(of)
    if (!operation) {
      operation = { rows: 0, receipts: 0, bytes: 0, refused: false }
      this.#operations.set(of, operation)
    }
    return operation
  }

  /** Reads a page of rows that have at most `rowBytes` together, as soon as their bytes are free. Throws OVERLOADED if they are not in time. */
  page<T>(rowBytes: number, read: () => Promise<T>): Promise<T> {
    return this.#within(Math.min(rowBytes, 2 * bytesOfOperation) * pageFactor, read)
  }

  /** As `page`, for single rows, which are not parsed and rendered together. */
  some<T>(rowBytes: number, read: () => Promise<T>): Promise<T> {
    return this.#within(rowBytes, read)
  }

  async #within<T>(bytes: number, read: () => Promise<T>): Promise<T> {
    await this.bytes.out.reserve(bytes)
    try {
      return await read()
    } finally {
      this.bytes.out.release(bytes)
    }
  }
}

/** The number of rows that one statement may read, if a row has at most `rowBytes`. */
export function rowsAtOnce(rowBytes: number): number {
  return Math.max(1, Math.floor((2 * bytesOfOperation) / rowBytes))
}

function tooMany() {
  return badInput(`one operation may ask for ${rowsOfOperation} rows at most; ask for fewer with first or last`)
}

export function tooLarge() {
  const mebibytes = bytesOfOperation / 1024 / 1024
  return badInput(`the rows that were asked for are more than ${mebibytes} MiB; ask for fewer at once`)
}
