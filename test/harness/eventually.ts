/** How tests wait: for a condition, never for a time. */

/**
 * What `fn` returns as soon as that is truthy. While `fn` throws or returns something falsy it is asked again; after `timeoutMs` this
 * throws what was in the way last. An assertion style function ends with `return true`: undefined is not taken for success, since a
 * look-up that finds nothing returns it, too.
 */
export async function eventually<T>(
  fn: () => T | Promise<T>,
  options: { timeoutMs?: number; intervalMs?: number } = {},
): Promise<NonNullable<T>> {
  const { timeoutMs = 10_000, intervalMs = 20 } = options
  const until = performance.now() + timeoutMs
  let obstacle: unknown = new Error('it never answered')
  for (;;) {
    const left = until - performance.now()
    if (left <= 0) break
    try {
      const value = await within(fn, left)
      if (value === late) break
      if (value) return value as NonNullable<T>
      obstacle = new Error(`it returned ${JSON.stringify(value)}, and something truthy was awaited`)
    } catch (error) {
      obstacle = error
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs))
  }
  const reason = obstacle instanceof Error ? obstacle.message : String(obstacle)
  throw new Error(`the condition did not hold within ${timeoutMs} ms: ${reason}`, { cause: obstacle })
}

const late = Symbol('late')

async function within<T>(fn: () => T | Promise<T>, ms: number): Promise<T | typeof late> {
  let timer: NodeJS.Timeout | undefined
  try {
    const timeout = new Promise<typeof late>((resolve) => {
      timer = setTimeout(resolve, ms, late)
    })
    return await Promise.race([fn(), timeout])
  } finally {
    clearTimeout(timer)
  }
}
