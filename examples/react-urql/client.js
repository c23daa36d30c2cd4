import { createClient } from 'graphql-sse'
import { Client, fetchExchange, subscriptionExchange } from 'urql'

/** With authentication: { authorization: `Bearer ${token}` }. graphql-sse takes an async function, urql this one. */
const headers = () => ({})

/** Subscriptions come as Server-Sent Events over fetch, which can send a token; a browser's EventSource cannot. */
const events = createClient({
  url: '/graphql',
  headers,
  retryAttempts: Number.POSITIVE_INFINITY,
  // After a restart of the server all clients come back at once: at a random moment.
  retry: () => new Promise((resolve) => setTimeout(resolve, 200 + Math.random() * 1_000)),
})

/** After a disconnect graphql-sse sends the request again: with the cursor of the last event, nothing is missed. */
function forwardSubscription({ query, variables }) {
  const request = { query, variables: { ...variables } }
  const subscribe = (sink) => {
    const next = (result) => {
      request.variables.after = result.data?.saved.cursor ?? request.variables.after
      sink.next(result)
    }
    return { unsubscribe: events.subscribe(request, { ...sink, next }) }
  }
  return { subscribe }
}

export const client = new Client({
  url: '/graphql',
  preferGetMethod: false,
  fetchOptions: () => ({ headers: headers() }),
  exchanges: [fetchExchange, subscriptionExchange({ forwardSubscription })],
})
