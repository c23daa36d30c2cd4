/** Ids for who brings none: UUIDv7, ordered by time. */
import { randomFillSync } from 'node:crypto'
import { V7Generator } from 'uuidv7'

/** The package asks the system for randomness every other id; a page of it at once is a fiftieth off what a save costs. */
const pool = new Uint32Array(1_024)
let used = pool.length

const generator = new V7Generator({
  nextUint32() {
    if (used === pool.length) {
      randomFillSync(pool)
      used = 0
    }
    return pool[used++]!
  },
})

export function newId(): string {
  return generator.generate().toString()
}
