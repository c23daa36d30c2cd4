import { SpillwayError } from '../../src/model/error.ts'
import type { SaveState } from '../../src/queue/queue.ts'

/** What `Queue.find` returned of an id, as a status, or the code of an error. */
export const statusOf = (state: SaveState | SpillwayError | undefined): string | undefined =>
  state instanceof SpillwayError ? state.code : state?.status
