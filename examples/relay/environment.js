import { createClient } from 'graphql-ws'
import { Environment, Network, Observable, RecordSource, Store } from 'relay-runtime'

/** With authentication: { authorization: `Bearer ${token}` }. */
const headers = () => ({})

const socket = createClient({
  url: `${location.origin.replace('http', 'ws')}/graphql`,
  connectionParams: headers,
  keepAlive: 12_000,
  retryAttempts: Number.POSITIVE_INFINITY,
  shouldRetry: () => true,
  // After a restart of the server all clients come back at once: at a random moment.
  retryWait: () => new Promise((resolve) => setTimeout(resolve, 200 + Math.random() * 1_000)),
})

async function request({ text }, variables) {
  const response = await fetch('/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/graphql-response+json', ...headers() },
    body: JSON.stringify({ query: text, variables }),
  })
  return await response.json()
}

/** After a disconnect graphql-ws subscribes again: with the cursor of the last event, nothing is missed. */
function subscribe({ text }, variables) {
  const payload = { query: text, variables: { ...variables } }
  return Observable.create((sink) =>
    socket.subscribe(payload, {
      next: (result) => {
        payload.variables.after = result.data?.saved?.cursor ?? payload.variables.after
        sink.next(result)
      },
      // The errors of a subscription that was refused are a list.
      error: (errors) =>
        sink.error(Array.isArray(errors) ? Object.assign(new Error(errors[0].message), errors[0]) : errors),
      complete: () => sink.complete(),
    }),
  )
}

export const environment = new Environment({
  network: Network.create(request, subscribe),
  store: new Store(new RecordSource()),
})
