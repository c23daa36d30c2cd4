/** An error, as it may stand in a log. */

const depth = 5
const listed = 5
const textLength = 4_000

/**
 * Only what is known to hold no secret: drivers hang onto their errors what they sent (ioredis: the command with its arguments, AUTH's too)
 * and where to. A user and password in a URL are masked, and texts are cut. What is no Error stays as it is.
 */
export function describeError(error: unknown, level = 0): unknown {
  if (!(error instanceof Error)) return error
  const { name, message, stack, cause } = error
  const { code, errno, syscall, errors } = error as {
    code?: unknown
    errno?: unknown
    syscall?: unknown
    errors?: unknown
  }
  return {
    type: error.constructor.name || name,
    message: clean(message),
    stack: clean(stack ?? ''),
    ...plain({ code, errno, syscall }),
    ...(cause instanceof Error && level < depth ? { cause: describeError(cause, level + 1) } : {}),
    ...(Array.isArray(errors) && level < depth
      ? {
          errors: errors
            .slice(0, listed)
            .map((each) => (each instanceof Error ? describeError(each, level + 1) : typeof each)),
        }
      : {}),
  }
}

/** The fields of a line, with each error in it described, whatever its name. */
export function describeErrors(fields: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, value instanceof Error ? describeError(value) : value]),
  )
}

/** `scheme://user:password@` and `scheme://user@`. A password may hold what belongs percent-encoded: up to the last `@` of the word. */
const credentials = /\b([a-z][a-z\d+.-]*:\/\/)[^\s"'`<>]*@/gi

function clean(text: string): string {
  const masked = text.replace(credentials, '$1[redacted]@')
  return masked.length > textLength ? `${masked.slice(0, textLength)}… (${masked.length} characters)` : masked
}

function plain(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => typeof value === 'string' || typeof value === 'number'),
  )
}
