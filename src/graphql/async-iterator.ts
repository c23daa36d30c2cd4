/**
 * An async iterator from two functions. A generator would not do: while it awaits, it does not process `return`, so that a client that
 * disconnects while nothing happens would stay subscribed forever.
 */
export function asyncIterator<T>(next: () => Promise<T | undefined>, close: () => void): AsyncIterableIterator<T> {
  let done = false
  const finish = (): IteratorResult<T> => {
    if (!done) {
      done = true
      close()
    }
    return { done: true, value: undefined }
  }
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    async next() {
      if (done) return finish()
      try {
        const value = await next()
        return value === undefined || done ? finish() : { done: false, value }
      } catch (error) {
        finish()
        throw error
      }
    },
    return: async () => finish(),
    throw: async (error) => {
      finish()
      throw error
    },
  }
}
