/**
 * Clients of the package spillway-client under faults: writers, whose saves survive a reload of their page, and followers. Invariant: a
 * follower knows each row that its application was given, and which ones it was given twice.
 */
import { type Client, createClient, type Follow, SpillwayError } from '../../client/index.ts'
import type { Entry, Storage } from '../../client/storage.ts'

export interface Comment {
  id: string
  postId: string
  body: string
}

type Comments = Client & { comment: NonNullable<Client['comment']> }
const connect = (url: string, storage?: Storage) => createClient(url, { storage }) as unknown as Comments

/** As localStorage: it keeps texts, and what is in it outlives a page. */
function pageStorage(): Storage & { size: number } {
  const texts = new Map<string, string>()
  return {
    get size() {
      return texts.size
    },
    all: () => [...texts.values()].map((text): Entry => JSON.parse(text)),
    put: (entry) => texts.set(entry.id, JSON.stringify(entry)),
    delete: (id) => texts.delete(id),
  }
}

export class Writer {
  /** Everything that was sent. */
  readonly sent = new Map<string, Comment>()
  readonly #url: string
  readonly #storage = pageStorage()
  #client: Comments
  #isStopped = false
  #writing: Promise<void> | undefined

  constructor(url: string) {
    this.#url = url
    this.#client = connect(url, this.#storage)
  }

  /** The saves that the server acknowledged: they are no longer in the outbox. */
  get acknowledged(): number {
    return this.sent.size - this.#storage.size
  }

  /** Rejects where a save is refused. */
  start(postIds: readonly string[]): void {
    this.#writing = this.#write(postIds)
    this.#writing.catch(() => {})
  }

  async #write(postIds: readonly string[]): Promise<void> {
    for (let i = 0; !this.#isStopped; i++) {
      const saves = [1, 2, 3].map((n) => {
        const input = { postId: postIds[(i + n) % postIds.length]!, body: `comment ${i}.${n} ${'🙂'.repeat(i % 20)}` }
        const save = this.#client.comment.save(input)
        this.sent.set(save.id, { id: save.id, ...input })
        return save
      })
      await Promise.all(saves).catch((error) => {
        if (!(error instanceof SpillwayError) || error.code !== 'CLOSED') throw error
      })
      // Nothing depends on this pause but the load.
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
  }

  /** The page is closed while it sends, and opened again. */
  reload(): void {
    this.#client.$close()
    this.#client = connect(this.#url, this.#storage)
  }

  wake(): void {
    this.#client.$outbox.retry()
  }

  /** What the outbox still has at the end; null: nothing. */
  get left(): object | null {
    const { state, waiting, refused } = this.#client.$outbox.getSnapshot()
    return state === 'idle' && this.#storage.size === 0 ? null : { state, waiting, refused }
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#writing
  }

  close(): void {
    this.#client.$close()
  }
}

interface Watched {
  kind: 'store' | 'iterator'
  /** Undefined: every comment. */
  postId?: string | undefined
}

export class Follower {
  readonly name: string
  readonly postId: string | undefined
  /** The ids of the rows that the application was given. */
  readonly seen = new Set<string>()
  /** Those that an iterator returned twice, also after a reload, or that a store had twice at a time. */
  readonly doubled: string[] = []
  readonly kind: Watched['kind']
  readonly #url: string
  #client: Comments
  #comments: Follow<Comment>
  /** Why it cannot go on. */
  problem: unknown

  constructor(url: string, { kind, postId }: Watched) {
    this.name = `${kind}, ${postId ? 'narrowed' : 'every row'}`
    this.postId = postId
    this.kind = kind
    this.#url = url
    this.#client = connect(url)
    this.#comments = this.#follow(undefined)
  }

  get isLive(): boolean {
    return this.#comments.getSnapshot().state === 'live'
  }

  /** As the browser's event `online` does: it ends the pause before the next try. */
  wake(): void {
    this.#client.$outbox.retry()
  }

  /** The page is closed and opened again, and goes on where it was. */
  reload(): void {
    const { cursor } = this.#comments.getSnapshot()
    this.close()
    this.#client = connect(this.#url)
    this.#comments = this.#follow(cursor)
  }

  close(): void {
    this.#client.$close()
  }

  #follow(from: string | undefined): Follow<Comment> {
    const by = this.postId ? { postId: this.postId } : {}
    const comments: Follow<Comment> = this.#client.comment.follow({ by, from, keep: 100_000 })
    if (this.kind === 'iterator') void this.#iterate(comments)
    else {
      let most = 0
      comments.subscribe(({ rows }) => {
        const ids = new Set<string>()
        for (const { id } of rows) {
          if (ids.has(id)) this.doubled.push(id)
          ids.add(id)
          this.seen.add(id)
        }
        if (rows.length < most) this.problem = new Error(`${most - rows.length} rows of the store are gone`)
        most = rows.length
      })
    }
    return comments
  }

  async #iterate(comments: Follow<Comment>): Promise<void> {
    try {
      for await (const { id } of comments) {
        if (this.seen.has(id)) this.doubled.push(id)
        this.seen.add(id)
      }
    } catch (error) {
      this.problem = error
    }
  }
}
