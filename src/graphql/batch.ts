/** Some results of a stream, in the forms that the transports send. Each form is made once, when it is needed: the frames also
 *  to tell how much memory a shared rendering takes. */
import type { FormattedExecutionResult } from 'graphql'

/** An object, or its JSON. */
export type Result = FormattedExecutionResult | string

export class Batch {
  readonly #results: readonly Result[]
  readonly #cursors: readonly string[] | undefined
  #objects: readonly FormattedExecutionResult[] | undefined
  #frames: Buffer | undefined
  #parts: Buffer | undefined

  /** `cursors`: behind each of the results; undefined if the stream cannot be resumed. */
  constructor(results: readonly Result[], cursors?: readonly string[]) {
    this.#results = results
    this.#cursors = cursors
  }

  get length(): number {
    return this.#results.length
  }

  /** Behind the last result. */
  get cursor(): string | undefined {
    return this.#cursors?.at(-1)
  }

  get results(): readonly FormattedExecutionResult[] {
    this.#objects ??= this.#results.map((result) => (typeof result === 'string' ? JSON.parse(result) : result))
    return this.#objects
  }

  /** As Server-Sent Events. */
  get frames(): Buffer {
    this.#frames ??= this.#joined((text, i) => {
      const cursor = this.#cursors?.[i]
      return cursor === undefined ? frameOf(text) : `id: ${cursor}\n${frameOf(text)}`
    })
    return this.#frames
  }

  /** As parts of a multipart response. */
  get parts(): Buffer {
    this.#parts ??= this.#joined((text) => partOf(`{"payload":${text}}`))
    return this.#parts
  }

  #joined(form: (text: string, i: number) => string): Buffer {
    let all = ''
    for (const [i, result] of this.#results.entries())
      all += form(typeof result === 'string' ? result : JSON.stringify(result), i)
    return Buffer.from(all)
  }
}

export function frameOf(json: string): string {
  return `event: next\ndata: ${json}\n\n`
}

/** Clients process a part only after the delimiter behind it, so each part ends with one. JSON has no line break that could make another. */
export const delimiter = '\r\n--graphql'

export function partOf(json: string): string {
  return `\r\ncontent-type: application/json\r\n\r\n${json}${delimiter}`
}
