/** Made by web/generate.ts of operations.graphql and schema.graphql: change those. */

declare const answers: unique symbol
declare const takes: unique symbol
/** The text of an operation, and in its type what it answers and what it takes. */
export type Operation<Data, Variables> = string & { [answers]: Data; [takes]: Variables }

export const Queue = 'query Queue{queue{depth inFlight oldestAgeMs deadLetters capacity durability paused{since by}}queueConditions{kind since models code lastError{at message code}}}' as Operation<
  { queue: { depth: number; inFlight: number; oldestAgeMs: number; deadLetters: number; capacity: number; durability: 'EVERYSEC' | 'FSYNC' | 'MEMORY' | 'REPLICATED'; paused: { since: string; by: string | null } | null } | null; queueConditions: ({ kind: 'DATABASE_UNAVAILABLE' | 'NO_WORKER' | 'PAUSED' | 'QUEUE_FULL' | 'QUEUE_GROWS' | 'QUEUE_UNAVAILABLE'; since: string | null; models: (string)[]; code: string | null; lastError: { at: string; message: string; code: string | null } | null })[] | null },
  Record<string, never>
>

export const QueueHistory = 'query QueueHistory($range:QueueHistoryRange!$model:String){queueHistory(range:$range model:$model){from to stepMs points{at accepted refused persisted deadLettered backlog ack{p50 p95 p99}saveToEvent{p50 p95 p99}}}}' as Operation<
  { queueHistory: { from: string; to: string; stepMs: number; points: ({ at: string; accepted: number | null; refused: number | null; persisted: number | null; deadLettered: number | null; backlog: number | null; ack: { p50: number; p95: number; p99: number } | null; saveToEvent: { p50: number; p95: number; p99: number } | null })[] } | null },
  { range: 'DAY' | 'FIVE_MINUTES' | 'HOUR'; model?: string | null }
>

export const Workers = 'query Workers{queueWorkers{name state host pid release startedAt endedAt rowsPerSecond held{model inFlight parked waitingSince waitingCode}lastError{at message code}}}' as Operation<
  { queueWorkers: ({ name: string; state: 'GONE' | 'PAUSED' | 'STOPPED' | 'WAITING' | 'WORKING'; host: string; pid: number; release: string; startedAt: string; endedAt: string | null; rowsPerSecond: number; held: ({ model: string | null; inFlight: number; parked: number; waitingSince: string | null; waitingCode: string | null })[]; lastError: { at: string; message: string; code: string | null } | null })[] | null },
  Record<string, never>
>

export const PausePersisting = 'mutation PausePersisting{pausePersisting{depth}}' as Operation<
  { pausePersisting: { depth: number } | null },
  Record<string, never>
>

export const ResumePersisting = 'mutation ResumePersisting{resumePersisting{depth}}' as Operation<
  { resumePersisting: { depth: number } | null },
  Record<string, never>
>

export const Receipt = 'query Receipt($id:ID!){receipt(id:$id){status failure{code message}}}' as Operation<
  { receipt: { status: 'FAILED' | 'QUEUED' | 'SAVED'; failure: { code: string; message: string } | null } | null },
  { id: string }
>

export const DeadLetters = 'query DeadLetters($first:Int$after:String$last:Int$before:String$filter:DeadLetterFilter){deadLetters(first:$first after:$after last:$last before:$before filter:$filter){edges{cursor node{saveId model failure{code message failedAt}}}pageInfo{hasNextPage hasPreviousPage}}}' as Operation<
  { deadLetters: { edges: ({ cursor: string; node: { saveId: string; model: string | null; failure: { code: string; message: string; failedAt: string } } })[]; pageInfo: { hasNextPage: boolean; hasPreviousPage: boolean } } | null },
  { first?: number | null; after?: string | null; last?: number | null; before?: string | null; filter?: { code?: string | null; failedAfter?: string | null; failedBefore?: string | null; model?: string | null; reason?: string | null } | null }
>

export const DeadLetterCounts = 'query DeadLetterCounts($filter:DeadLetterFilter){deadLetters(first:1 filter:$filter){countsByCode{code count}}}' as Operation<
  { deadLetters: { countsByCode: ({ code: string; count: number })[] } | null },
  { filter?: { code?: string | null; failedAfter?: string | null; failedBefore?: string | null; model?: string | null; reason?: string | null } | null }
>

export const Retry = 'mutation Retry($ids:[ID!]$filter:DeadLetterFilter$dryRun:Boolean!){retryDeadLetters(ids:$ids filter:$filter dryRun:$dryRun){count}}' as Operation<
  { retryDeadLetters: { count: number } | null },
  { ids?: (string)[] | null; filter?: { code?: string | null; failedAfter?: string | null; failedBefore?: string | null; model?: string | null; reason?: string | null } | null; dryRun: boolean }
>

export const Discard = 'mutation Discard($ids:[ID!]$filter:DeadLetterFilter$dryRun:Boolean!){discardDeadLetters(ids:$ids filter:$filter dryRun:$dryRun){count}}' as Operation<
  { discardDeadLetters: { count: number } | null },
  { ids?: (string)[] | null; filter?: { code?: string | null; failedAfter?: string | null; failedBefore?: string | null; model?: string | null; reason?: string | null } | null; dryRun: boolean }
>

export const FindReceipt = 'query FindReceipt($id:ID!){saveLookup(id:$id){receipt{model status acceptedAt conflicts failure{code message}}}}' as Operation<
  { saveLookup: { receipt: { model: string; status: 'FAILED' | 'QUEUED' | 'SAVED'; acceptedAt: string; conflicts: number; failure: { code: string; message: string } | null } | null } | null },
  { id: string }
>

export const FindRow = 'query FindRow($id:ID!){saveLookup(id:$id){row}}' as Operation<
  { saveLookup: { row: unknown | null } | null },
  { id: string }
>

export const FindDeadLetters = 'query FindDeadLetters($id:ID!){saveLookup(id:$id){deadLetterCount deadLetters{model input acceptedAt failure{code message attempts failedAt}}}}' as Operation<
  { saveLookup: { deadLetterCount: number | null; deadLetters: ({ model: string | null; input: unknown | null; acceptedAt: string | null; failure: { code: string; message: string; attempts: number; failedAt: string } })[] | null } | null },
  { id: string }
>

export const EditDeadLetter = 'mutation EditDeadLetter($id:ID!$input:JSON!){editDeadLetter(id:$id input:$input){status}}' as Operation<
  { editDeadLetter: { status: 'FAILED' | 'QUEUED' | 'SAVED' } | null },
  { id: string; input: unknown }
>
