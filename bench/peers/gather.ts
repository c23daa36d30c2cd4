/** Rows of several jobs gather until they are a thousand, or for ten milliseconds, and are written together. */
const size = 1_000
const lingerMs = 10

interface Batch<Row> {
  rows: Row[]
  done: Promise<void>
  close(): void
}

/** Returns what adds rows; it resolves when they are written. */
export function gather<Row>(write: (rows: Row[]) => Promise<unknown>): (...rows: Row[]) => Promise<void> {
  let batch: Batch<Row> | undefined

  function begin(): Batch<Row> {
    const rows: Row[] = []
    const closed = Promise.withResolvers<void>()
    const close = () => {
      clearTimeout(timer)
      batch = undefined
      closed.resolve()
    }
    const timer = setTimeout(close, lingerMs)
    const done = closed.promise.then(async () => void (await write(rows)))
    return { rows, done, close }
  }

  return (...added) => {
    batch ??= begin()
    const { rows, done, close } = batch
    rows.push(...added)
    if (rows.length >= size) close()
    return done
  }
}
