/** A subscriber over a multipart response (Apollo's `multipart/mixed; subscriptionSpec=1.0`) that keeps the bytes it got. */
import type { Json } from './client.ts'

export const multipartAccept = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0, application/json'

export class MultipartClient {
  readonly response: Response
  /** Resolves when the response ends, however it ends. */
  readonly ended: Promise<void>
  text = ''
  readonly #abort: AbortController

  private constructor(response: Response, abort: AbortController) {
    this.response = response
    this.#abort = abort
    this.ended = this.#read().catch(() => {})
  }

  static async open(
    url: string,
    query: string,
    variables: Record<string, unknown> = {},
    headers: Record<string, string> = {},
  ): Promise<MultipartClient> {
    const abort = new AbortController()
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: multipartAccept, ...headers },
      body: JSON.stringify({ query, variables }),
      signal: abort.signal,
    })
    return new MultipartClient(response, abort)
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder()
    for await (const chunk of this.response.body!) this.text += decoder.decode(chunk, { stream: true })
  }

  /** The bodies of the parts whose end has come. Throws where the text is no multipart body. */
  get parts(): Json[] {
    const [before, ...parts] = this.text.split('\r\n--graphql')
    if (before !== '') throw new Error(`the body begins with ${JSON.stringify(before)}`)
    return parts.slice(0, -1).map((part) => {
      const [, body] = /^\r\ncontent-type: application\/json\r\n\r\n(.*)$/s.exec(part) ?? []
      return JSON.parse(body!)
    })
  }

  /** What came in parts with a payload, or with errors in place of it. */
  get results(): Json[] {
    return this.parts.filter((part) => Object.keys(part).length > 0)
  }

  get completed(): boolean {
    return this.text.endsWith('\r\n--graphql--\r\n')
  }

  close(): void {
    this.#abort.abort()
  }
}
