/** Made by web/generate.ts of operations.graphql and schema.graphql: change those. */

declare const answers: unique symbol
declare const takes: unique symbol
/** The text of an operation, and in its type what it answers and what it takes. */
export type Operation<Data, Variables> = string & { [answers]: Data; [takes]: Variables }

export const Queue = 'query Queue{queue{depth inFlight oldestAgeMs deadLetters capacity durability}}' as Operation<
  { queue: { depth: number; inFlight: number; oldestAgeMs: number; deadLetters: number; capacity: number; durability: 'EVERYSEC' | 'FSYNC' | 'MEMORY' | 'REPLICATED' } | null },
  Record<string, never>
>

export const Receipt = 'query Receipt($id:ID!){receipt(id:$id){status failure{code message}}}' as Operation<
  { receipt: { status: 'FAILED' | 'QUEUED' | 'SAVED'; failure: { code: string; message: string } | null } | null },
  { id: string }
>

export const DeadLetters = 'query DeadLetters($first:Int$after:String$filter:DeadLetterFilter){deadLetters(first:$first after:$after filter:$filter){edges{cursor node{saveId model input acceptedAt failure{code message attempts failedAt}}}pageInfo{hasNextPage}}}' as Operation<
  { deadLetters: { edges: ({ cursor: string; node: { saveId: string; model: string | null; input: unknown | null; acceptedAt: string | null; failure: { code: string; message: string; attempts: number; failedAt: string } } })[]; pageInfo: { hasNextPage: boolean } } | null },
  { first?: number | null; after?: string | null; filter?: { code?: string | null; failedAfter?: string | null; failedBefore?: string | null; model?: string | null; reason?: string | null } | null }
>

export const Retry = 'mutation Retry($ids:[ID!]$filter:DeadLetterFilter){retryDeadLetters(ids:$ids filter:$filter){count}}' as Operation<
  { retryDeadLetters: { count: number } | null },
  { ids?: (string)[] | null; filter?: { code?: string | null; failedAfter?: string | null; failedBefore?: string | null; model?: string | null; reason?: string | null } | null }
>

export const Discard = 'mutation Discard($ids:[ID!]){discardDeadLetters(ids:$ids){count}}' as Operation<
  { discardDeadLetters: { count: number } | null },
  { ids?: (string)[] | null }
>
