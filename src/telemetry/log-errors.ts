/** Errors in a form that is safe to log. */

const depth = 5
const listed = 5
const textLength = 4_000

/**
 * Keeps only the fields that hold no secret: drivers attach to their errors what they sent (ioredis: a command with its arguments, those of
 * AUTH too) and the address. Masks a user and password in a URL, and cuts long texts. Returns a value that is no Error unchanged.
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

/** The fields of a line, with each error among them described. */
export function describeErrors(fields: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, value instanceof Error ? describeError(value) : value]),
  )
}

/** `scheme://user:password@` and `scheme://user@`. A password may contain an `@` that is not percent-encoded: the match ends at the last one. */
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
