/** How tests wait: for a condition, never for a time. */

interface Patience {
  timeoutMs?: number
  intervalMs?: number
  /** Each time its value has changed, `timeoutMs` begins again: a busy machine is slow, and what hangs stands still. */
  progress?: () => unknown
}

/**
 * What `fn` returns as soon as that is truthy. While `fn` throws or returns something falsy it is asked again; after `timeoutMs` this
 * throws what was in the way last. Nothing returned is no success: a look-up that finds nothing returns undefined, too. For
 * assertions there is `holds`.
 */
export async function eventually<T>(fn: () => T | Promise<T>, patience?: Patience): Promise<NonNullable<T>> {
  return await poll(async () => {
    const value = await fn()
    if (!value) throw new Error(`it returned ${JSON.stringify(value)}`)
    return value
  }, patience)
}

/** Waits until the assertions in `fn` hold: asks it again while it throws, and returns what it returns. */
export async function holds<T>(fn: () => T | Promise<T>, patience?: Patience): Promise<T> {
  return await poll(async () => await fn(), patience)
}

async function poll<T>(
  fn: () => Promise<T>,
  { timeoutMs = 20_000, intervalMs = 20, progress }: Patience = {},
): Promise<T> {
  let until = performance.now() + timeoutMs
  let reached = progress?.()
  let obstacle: unknown = new Error('it never answered')
  for (;;) {
    const reaches = progress?.()
    if (reaches !== reached) until = performance.now() + timeoutMs
    reached = reaches
    const left = until - performance.now()
    if (left <= 0) break
    try {
      const value = await within(fn, left)
      if (value === late) break
      return value
    } catch (error) {
      obstacle = error
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs))
  }
  const reason = obstacle instanceof Error ? obstacle.message : String(obstacle)
  throw new Error(`the condition did not hold within ${timeoutMs} ms: ${reason}`, { cause: obstacle })
}

const late = Symbol('late')

async function within<T>(fn: () => Promise<T>, ms: number): Promise<T | typeof late> {
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
