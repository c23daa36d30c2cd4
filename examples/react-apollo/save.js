/** What was not accepted, or may have been, is sent again. */
const again = ['QUEUE_FULL', 'QUEUE_UNAVAILABLE', 'OUTCOME_UNKNOWN', 'RATE_LIMITED', 'OVERLOADED']

/** `errors` of Apollo Client 4; the others of 3. */
function extensionsOf({ errors, graphQLErrors, networkError }) {
  return [errors, graphQLErrors, networkError?.result?.errors].find((list) => list?.length > 0)?.[0].extensions
}

export const codeOf = (error) => extensionsOf(error)?.code

/** Saves under an id of its own, so that however often it is sent, it becomes one row. Throws what sending again would not mend. */
export async function saveUntilAccepted(save, input) {
  const id = crypto.randomUUID()
  for (;;) {
    try {
      await save({ id, ...input })
      return id
    } catch (error) {
      const { code, retryAfterMs = 1_000 } = extensionsOf(error) ?? {}
      // Without a code: no answer, or that of a proxy.
      if (code !== undefined && !again.includes(code)) throw error
      await new Promise((resolve) => setTimeout(resolve, retryAfterMs))
    }
  }
}
