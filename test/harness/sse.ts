/** A subscriber over Server-Sent Events that keeps what it got. */
export interface Frame {
  id: string | undefined
  event: string | undefined
  data: string
}

export class SseClient {
  readonly frames: Frame[] = []
  /** Called with each frame besides, as it comes. */
  onFrame: (frame: Frame) => void = () => {}
  readonly status: number
  /** Resolves when the stream ends, however it ends. */
  readonly ended: Promise<void>
  readonly #abort: AbortController

  readonly headers: Headers

  private constructor(response: Response, abort: AbortController) {
    this.status = response.status
    this.headers = response.headers
    this.#abort = abort
    this.ended = this.#read(response).catch(() => {})
  }

  /** Resolves when the server has answered, with its first bytes on their way. */
  static async open(
    url: string,
    query: string,
    variables: Record<string, unknown> = {},
    headers: Record<string, string> = {},
  ): Promise<SseClient> {
    return await SseClient.fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream', ...headers },
      body: JSON.stringify({ query, variables }),
    })
  }

  /** A request of any form. */
  static async fetch(url: string, request: RequestInit): Promise<SseClient> {
    const abort = new AbortController()
    return new SseClient(await fetch(url, { ...request, signal: abort.signal }), abort)
  }

  async #read(response: Response): Promise<void> {
    let text = ''
    const decoder = new TextDecoder()
    for await (const chunk of response.body!) {
      text += decoder.decode(chunk, { stream: true })
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const frame: Frame = { id: undefined, event: undefined, data: '' }
        for (const line of text.slice(0, end).split('\n')) {
          // U+2028 ends no line here.
          const [, field, value] = /^([a-z]+): ?(.*)$/s.exec(line) ?? []
          if (field === 'id' || field === 'event' || field === 'data') frame[field] = value!
        }
        if (frame.event || frame.data || frame.id) {
          this.frames.push(frame)
          this.onFrame(frame)
        }
        text = text.slice(end + 2)
      }
    }
  }

  /** What came in `next` frames, parsed. */
  // biome-ignore lint/suspicious/noExplicitAny: as Json in client.ts.
  get results(): any[] {
    return this.frames.filter(({ event }) => event === 'next').map(({ data }) => JSON.parse(data))
  }

  close(): void {
    this.#abort.abort()
  }
}
