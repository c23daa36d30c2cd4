/** What was not accepted, or may have been, is sent again. */
const again = ['QUEUE_FULL', 'QUEUE_UNAVAILABLE', 'OUTCOME_UNKNOWN', 'RATE_LIMITED', 'OVERLOADED']

/** Saves under an id of its own, so that however often it is sent, it becomes one row. Throws what sending again would not mend. */
export async function saveUntilAccepted(save, input) {
  const id = crypto.randomUUID()
  for (;;) {
    const error = await save({ id, ...input })
    if (!error) return id
    const { code, retryAfterMs = 1_000 } = error.extensions ?? {}
    // Without a code: no answer, or that of a proxy.
    if (code !== undefined && !again.includes(code)) throw error
    await new Promise((resolve) => setTimeout(resolve, retryAfterMs))
  }
}
