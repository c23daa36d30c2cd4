import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, Observable } from '@apollo/client'
import { getMainDefinition } from '@apollo/client/utilities'
import { print } from 'graphql'
import { createClient } from 'graphql-ws'

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

/** As GraphQLWsLink, but after a disconnect it subscribes with the cursor of the last event. So nothing is missed. */
const subscriptions = new ApolloLink(({ query, variables }) => {
  const payload = { query: print(query), variables: { ...variables } }
  return new Observable((sink) =>
    socket.subscribe(payload, {
      next: (result) => {
        payload.variables.after = result.data?.saved?.cursor ?? payload.variables.after
        sink.next(result)
      },
      // The errors of a subscription that was refused are a list.
      error: (error) => (Array.isArray(error) ? sink.next({ errors: error }) : sink.error(error)),
      complete: () => sink.complete(),
    }),
  )
})

const requests = new HttpLink({ uri: '/graphql', headers: headers() })
const isSubscription = ({ query }) => getMainDefinition(query).operation === 'subscription'

export const client = new ApolloClient({
  link: ApolloLink.split(isSubscription, subscriptions, requests),
  cache: new InMemoryCache(),
})
