/**
 * Coalescing: the keys that are asked for within one tick go to `load` as one call, each key once. `load` returns one value for each
 * key, in the order of the keys. More than `atMost` keys go in several calls, one after the other; a call that fails rejects the
 * callers of its own keys only.
 */
export function coalesce<Key, Value>(
  load: (keys: Key[]) => Promise<readonly Value[]>,
  atMost = Number.POSITIVE_INFINITY,
): (key: Key) => Promise<Value> {
  let waiting = new Map<Key, PromiseWithResolvers<Value>>()

  const send = async () => {
    const callers = [...waiting]
    waiting = new Map()
    for (let i = 0; i < callers.length; i += atMost) {
      const chunk = callers.slice(i, i + atMost)
      try {
        const values = await load(chunk.map(([key]) => key))
        for (const [j, [, { resolve }]] of chunk.entries()) resolve(values[j]!)
      } catch (error) {
        for (const [, { reject }] of chunk) reject(error)
      }
    }
  }

  return (key) => {
    let caller = waiting.get(key)
    if (!caller) {
      if (waiting.size === 0) setImmediate(send)
      caller = Promise.withResolvers()
      waiting.set(key, caller)
    }
    return caller.promise
  }
}
