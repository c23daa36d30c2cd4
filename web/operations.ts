/** Made by web/generate.ts of operations.graphql and schema.graphql: change those. */

declare const answers: unique symbol
declare const takes: unique symbol
/** The text of an operation, and in its type what it answers and what it takes. */
export type Operation<Data, Variables> = string & { [answers]: Data; [takes]: Variables }

export const Queue = 'query Queue{queue{depth inFlight oldestAgeMs deadLetters capacity durability}}' as Operation<
  { queue: { depth: number; inFlight: number; oldestAgeMs: number; deadLetters: number; capacity: number; durability: 'EVERYSEC' | 'FSYNC' | 'MEMORY' } },
  Record<string, never>
>

export const Contents = 'query Contents($first:Int$after:String){contents(first:$first after:$after){edges{cursor node{id content createdAt savedAt}}pageInfo{hasNextPage}}}' as Operation<
  { contents: { edges: ({ cursor: string; node: { id: string; content: string; createdAt: string; savedAt: string } })[]; pageInfo: { hasNextPage: boolean } } },
  { first?: number | null; after?: string | null }
>

export const Saved = 'subscription Saved($after:String){saved(after:$after){cursor content{id content createdAt savedAt}}}' as Operation<
  { saved: { cursor: string; content: { id: string; content: string; createdAt: string; savedAt: string } } },
  { after?: string | null }
>

export const Save = 'mutation Save($content:String!$id:ID){save(content:$content id:$id){status failure{code message}}}' as Operation<
  { save: { status: 'FAILED' | 'QUEUED' | 'SAVED'; failure: { code: string; message: string } | null } },
  { content: string; id?: string | null }
>

export const Receipt = 'query Receipt($id:ID!){receipt(id:$id){status failure{code message}}}' as Operation<
  { receipt: { status: 'FAILED' | 'QUEUED' | 'SAVED'; failure: { code: string; message: string } | null } | null },
  { id: string }
>

export const SaveMany = 'mutation SaveMany($inputs:[SaveInput!]!){saveMany(inputs:$inputs){status}}' as Operation<
  { saveMany: ({ status: 'FAILED' | 'QUEUED' | 'SAVED' })[] },
  { inputs: ({ content: string; id?: string | null })[] }
>

export const DeadLetters = 'query DeadLetters($first:Int$after:String){deadLetters(first:$first after:$after){edges{cursor node{saveId model input acceptedAt failure{code message attempts failedAt}}}pageInfo{hasNextPage}}}' as Operation<
  { deadLetters: { edges: ({ cursor: string; node: { saveId: string; model: string | null; input: unknown | null; acceptedAt: string | null; failure: { code: string; message: string; attempts: number; failedAt: string } } })[]; pageInfo: { hasNextPage: boolean } } | null },
  { first?: number | null; after?: string | null }
>

export const Retry = 'mutation Retry($ids:[ID!]$filter:DeadLetterFilter){retryDeadLetters(ids:$ids filter:$filter){count}}' as Operation<
  { retryDeadLetters: { count: number } | null },
  { ids?: (string)[] | null; filter?: { code?: string | null; failedAfter?: string | null; failedBefore?: string | null; model?: string | null } | null }
>

export const Discard = 'mutation Discard($ids:[ID!]){discardDeadLetters(ids:$ids){count}}' as Operation<
  { discardDeadLetters: { count: number } | null },
  { ids?: (string)[] | null }
>
