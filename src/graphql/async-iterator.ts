/**
 * An async iterator from two functions. Not a generator: a generator that awaits does not hear `return` until what it awaits has come, so
 * that a subscriber who leaves while nothing happens would stay for ever.
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
