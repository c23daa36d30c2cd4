/**
 * From entries to rows. Invariant: each entry becomes a committed row with its content, or a letter that says why it cannot be one, or is
 * parked: it failed by itself, and is tried again by itself (parking.ts). Nothing is dropped, and nothing is overwritten.
 *
 * Whose fault an error is: a row's where the table took other rows right before the row failed and right after; a foreign key that is
 * not met, an error that nobody knows and what the database says of itself count against a row only after a while, or never.
 * Everything else is the server's, and is waited for without limit.
 *
 * The fast path is one plain INSERT of the whole batch. INSERT IGNORE would be simpler and hides truncation.
 */
import { StoreFault, type Writer } from '../src/db/store.ts'
import { type Content, parseId, problemOf } from '../src/model/content.ts'
import type { FailureCode } from '../src/model/error.ts'
import type { Log } from '../src/model/log.ts'
import { decode } from '../src/model/message.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { digestOf } from '../src/queue/digest.ts'
import type { DeadLetterInput, Entry } from '../src/queue/queue.ts'
import { TableState } from './table-state.ts'

export interface RejectedEntry extends DeadLetterInput {
  /** The id to announce the failure under; undefined for what has none. */
  id: string | undefined
}

export interface Outcome {
  /** What is committed, in the order it was accepted. An entry that repeats a row of before counts: it has to be announced again. */
  saved: Content[]
  entries: Entry[]
  deadLetters: RejectedEntry[]
}

/** Entries of one id and one content: one row. */
export interface Row {
  content: Content
  entries: Entry[]
}

/** A row that failed by itself and may be saved yet. */
export interface Parked {
  row: Row
  fault: StoreFault
  /** When it failed first (performance.now()). */
  since: number
  /** How often it failed while the table took other rows. */
  tries: number
}

export interface Persisted extends Outcome {
  parked: Parked[]
}

export interface PersisterOptions {
  maxAttempts: number
  log: Log
  /** No more is waited for. */
  signal: AbortSignal
  meter?: Meter | undefined
  /** For how long a row is tried again whose parent is missing, or whose error nobody knows. */
  patienceMs?: number | undefined
}

/** What one call has come to so far. */
interface Round {
  saved: Row[]
  deadLetters: RejectedEntry[]
  /** Rows that failed alone; `proved`: after they had failed before, and right before this, the table took others. */
  alone: { row: Row; fault: StoreFault; failedAt: number; proved: boolean }[]
  /** What is known of rows that were parked before. */
  before: ReadonlyMap<Row, Parked>
  /** Whether to wait, within the call, for a database that is away. */
  waits: boolean
}

/** The database is asked for proof when it says of itself that it is away for the third time. */
const triesBeforeProof = 3
/** A row is blamed where the table was seen to take rows so shortly before. */
const proofMs = 2_000
/** What a round of parked rows tries one by one while the table takes no rows. */
const mostWhileWaiting = 4

export class Persister {
  readonly #store: Writer
  readonly #table: TableState
  readonly #options: PersisterOptions
  readonly #meter: Meter
  readonly #patienceMs: number
  #backlogAt = Number.NEGATIVE_INFINITY

  constructor(store: Writer, options: PersisterOptions, table = new TableState(store, options)) {
    this.#store = store
    this.#table = table
    this.#options = options
    this.#meter = options.meter ?? noMeter
    this.#patienceMs = options.patienceMs ?? 60_000
  }

  /** There is more in the queue than a worker takes at once: what a row waits for may be there. */
  backlog(): void {
    this.#backlogAt = performance.now()
  }

  /** Waits for a database that is away, unless told not to: then its rows are parked. Throws Stopped when the signal aborts before. */
  async persist(entries: readonly Entry[], { waits = true } = {}): Promise<Persisted> {
    const deadLetters: RejectedEntry[] = []
    const rows = this.#rows(entries, deadLetters)
    const round: Round = { saved: [], deadLetters, alone: [], before: new Map(), waits }
    for (const chunk of this.#chunks(rows)) await this.#insert(chunk, round)
    const order = new Map(rows.map((row, i) => [row.content.id, i]))
    round.saved.sort((a, b) => order.get(a.content.id)! - order.get(b.content.id)!)
    return await this.#judge(round)
  }

  /** Tries parked rows once more: together, then each by itself. */
  async retry(parked: readonly Parked[]): Promise<Persisted> {
    const before = new Map(parked.map((one) => [one.row, one]))
    const round: Round = { saved: [], deadLetters: [], alone: [], before, waits: false }
    for (const chunk of this.#chunks(parked.map(({ row }) => row))) {
      if (chunk.length > 1 && !(await this.#try(chunk, round))) continue
      await this.#table.takesRows(performance.now() - proofMs / 2)
      for (const [tried, row] of chunk.entries()) {
        const { since, fault } = before.get(row)!
        if (tried < mostWhileWaiting || !this.#table.waiting) await this.#insert([row], round, since)
        else round.alone.push({ row, fault, failedAt: performance.now(), proved: false })
      }
    }
    return await this.#judge(round)
  }

  #rows(entries: readonly Entry[], deadLetters: RejectedEntry[]): Row[] {
    const rows = new Map<string, Row>()
    const savedAt = new Date()
    for (const entry of entries) {
      const message = decode(entry.body)
      if ('problem' in message) {
        deadLetters.push(deadLetter(entry, 'UNDECODABLE', message.problem))
        continue
      }
      const { id, content, at } = message
      // What the API checked, checked again: the queue may hold what never came through it.
      const problem =
        parseId(id) === id ? problemOf(content, Number.POSITIVE_INFINITY) : 'the id is not a lower-case UUID'
      if (problem) {
        deadLetters.push(deadLetter(entry, 'REJECTED', problem))
        continue
      }
      const row = rows.get(id)
      if (!row) rows.set(id, { content: { id, content, createdAt: new Date(at), savedAt }, entries: [entry] })
      else if (row.content.content === content) row.entries.push(entry)
      else deadLetters.push(deadLetter(entry, 'ID_CONFLICT', conflict(id)))
    }
    return [...rows.values()]
  }

  /** Statements' worth, bounded in rows and bytes. */
  #chunks(rows: readonly Row[]): Row[][] {
    const chunks: Row[][] = []
    let bytes = Number.POSITIVE_INFINITY
    for (const row of rows) {
      const size = Buffer.byteLength(row.content.content) + 128
      const last = chunks.at(-1)
      if (!last || bytes + size > this.#store.maxBytes || last.length >= this.#store.maxRows) {
        chunks.push([row])
        bytes = size
      } else {
        last.push(row)
        bytes += size
      }
    }
    return chunks
  }

  /** Undefined when they are committed. */
  async #try(rows: readonly Row[], round: Round): Promise<StoreFault | undefined> {
    const began = performance.now()
    try {
      await this.#table.statement(() => this.#store.insert(rows.map(({ content }) => content)))
    } catch (error) {
      if (error instanceof StoreFault) return error
      throw error
    }
    this.#table.worked(began)
    round.saved.push(...rows)
    this.#committed(rows, began)
    return undefined
  }

  /** `since`: when an insert with these rows failed first, if one did. */
  async #insert(rows: readonly Row[], round: Round, since?: number): Promise<void> {
    let left = rows
    for (let tries = 1; left.length > 0; tries += 1) {
      const proved = since !== undefined && this.#table.worksSince(since, proofMs)
      const fault = await this.#try(left, round)
      if (!fault) return
      const failedAt = performance.now()
      if (fault.kind === 'duplicate') {
        const fresh = await this.#withoutExisting(left, round)
        if (fresh.length < left.length) {
          left = fresh
          tries = 0
          continue
        }
      }
      if (fault.kind === 'too-large') {
        if (left.length === 1) return this.#blame(left[0]!, fault, 'REJECTED', 1, round)
      } else {
        const away = fault.kind === 'unavailable' && round.waits
        if (away && tries < triesBeforeProof) this.#table.failed(fault)
        if ((away && tries < triesBeforeProof) || !(await this.#table.takesRows(failedAt))) {
          if (away) {
            await this.#table.rest(tries)
            continue
          }
          // What the probe met, too, is the table's; these are tried on all the same, since the probe's row may be the odd one.
          for (const row of left) round.alone.push({ row, fault, failedAt, proved: false })
          return
        }
        if (left.length === 1) {
          round.alone.push({ row: left[0]!, fault, failedAt, proved })
          return
        }
      }
      const middle = left.length >> 1
      await this.#insert(left.slice(0, middle), round, since ?? failedAt)
      await this.#insert(left.slice(middle), round, since ?? failedAt)
      return
    }
  }

  /** What the rows that failed alone are: to blame, or parked. */
  async #judge(round: Round): Promise<Persisted> {
    const { saved, deadLetters, alone } = round
    const parked: Parked[] = []
    const works = alone.some(({ proved }) => proved) && (await this.#table.takesRows())
    const now = performance.now()
    for (const { row, fault, failedAt, proved } of alone) {
      const { since = failedAt, tries: before = 0 } = round.before.get(row) ?? {}
      const counts = works && proved && now - failedAt < proofMs
      const tries = counts ? before + 1 : before
      const code = counts ? this.#verdict(fault, tries, since) : undefined
      if (code) this.#blame(row, fault, code, tries, round)
      else parked.push({ row, fault, since, tries })
    }
    return {
      saved: saved.map(({ content }) => content),
      entries: saved.flatMap((row) => row.entries),
      deadLetters,
      parked,
    }
  }

  /** Undefined as long as the row may be saved yet. */
  #verdict({ kind, index }: StoreFault, tries: number, since: number): FailureCode | undefined {
    const enough = tries >= this.#options.maxAttempts
    const waited = performance.now() - Math.max(since, this.#backlogAt) >= this.#patienceMs
    if (kind === 'rejected') return 'REJECTED'
    // Of the id itself: a look-up that does not show a row that is there, a replica's perhaps, will show it later.
    if (kind === 'duplicate') return enough && index !== undefined ? 'REJECTED' : undefined
    if (kind === 'reference') return enough && waited ? 'REJECTED' : undefined
    if (kind === 'unknown') return enough && waited ? 'GAVE_UP' : undefined
    return undefined
  }

  #blame(row: Row, fault: StoreFault, code: FailureCode, tries: number, round: Round): void {
    this.#options.log.error(
      { reason: fault.message, code: fault.vendorCode, id: row.content.id },
      'the database rejected a row; dead-lettering it',
    )
    round.deadLetters.push(...row.entries.map((entry) => deadLetter(entry, code, reason(fault), tries)))
  }

  #committed(rows: readonly Row[], started: number): void {
    this.#meter.stage('insert', (performance.now() - started) / 1_000)
    const oldest = rows.reduce((min, { content }) => Math.min(min, +content.createdAt), Number.POSITIVE_INFINITY)
    this.#meter.committed(rows.length, Math.max(0, Date.now() - oldest) / 1_000)
  }

  /** Sorts out what is there already: equal rows count as saved, different ones are conflicts. What is left is new. A look-up that
   *  fails says nothing of any row: it is tried until it succeeds. */
  async #withoutExisting(rows: readonly Row[], round: Round): Promise<Row[]> {
    const found = new Map((await this.#existing(rows)).map((content) => [content.id, content]))
    return rows.filter((row) => {
      const there = found.get(row.content.id)
      if (!there) return true
      if (there.content === row.content.content) round.saved.push({ content: there, entries: row.entries })
      else round.deadLetters.push(...row.entries.map((entry) => conflictWith(there, entry)))
      return false
    })
  }

  async #existing(rows: readonly Row[]): Promise<Content[]> {
    const ids = rows.map(({ content }) => content.id)
    const existing: Content[] = []
    // As many as a look-up takes.
    for (let i = 0; i < ids.length; i += 1_000) {
      for (let tries = 1; ; tries += 1) {
        try {
          existing.push(...(await this.#table.statement(() => this.#store.existing(ids.slice(i, i + 1_000)))))
          break
        } catch (error) {
          if (!(error instanceof StoreFault)) throw error
          this.#table.failed(error)
          await this.#table.rest(tries)
        }
      }
    }
    return existing
  }
}

export function deadLetter(entry: Entry, code: FailureCode, message: string, attempts = 1): RejectedEntry {
  return { entry, id: entry.id, failure: { code, message, attempts, failedAt: new Date() } }
}

/** The queue is told what stands, so that it refuses the next conflict. */
function conflictWith({ id, content, createdAt }: Content, entry: Entry): RejectedEntry {
  return { ...deadLetter(entry, 'ID_CONFLICT', conflict(id)), existing: { digest: digestOf(content), at: +createdAt } }
}

function conflict(id: string): string {
  return `${id} is saved already, with other content`
}

/** What an operator and the sender may both know: the database's code, never its words, which name hosts and quote content. */
function reason({ kind, vendorCode, index }: StoreFault): string {
  const code = vendorCode ? ` (code ${vendorCode})` : ''
  if (kind === 'too-large') return `the database takes no statement as large as this one content${code}`
  if (kind === 'duplicate') return `another row has a value that must be unique, in the index ${index}${code}`
  if (kind === 'reference') return `the row that this content refers to did not appear in time${code}`
  if (kind === 'rejected') return `the database refuses this content${code}`
  return `the database failed on this content again and again, and on no other${code}`
}
