/** Dead letters of ids, retried and discarded as the API does it. */

import { DeadLetters } from '../../src/app/dead-letters.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { models } from './contents.ts'

export async function retryIds(queue: Queue, ids: readonly string[]): Promise<number> {
  return (await new DeadLetters({ models, queue }).retry({ ids })).count
}

export async function discardIds(queue: Queue, ids: readonly string[]): Promise<number> {
  return (await new DeadLetters({ models, queue }).discard({ ids })).count
}
