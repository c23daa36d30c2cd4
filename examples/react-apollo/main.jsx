import { gql } from '@apollo/client'
import { ApolloProvider, useMutation, useQuery } from '@apollo/client/react'
import { useEffect, useState } from 'react'
import { createRoot } from 'react-dom/client'
import { client } from './client.js'
import { codeOf, saveUntilAccepted } from './save.js'

const pageQuery = gql`query { contents(first: 20) { savedCursor edges { node { id content } } } }`
const savedSubscription = gql`subscription ($after: String) { saved(after: $after) { cursor content { id content } } }`
const saveMutation = gql`mutation ($id: ID!, $content: String!) { save(id: $id, content: $content) { saveId status } }`

/** A page of the newest rows, and every row that is saved after it: `savedCursor` is where the events stood before the page was read. */
function useContents() {
  const { data, error, refetch, subscribeToMore } = useQuery(pageQuery)
  const [lost, setLost] = useState()
  const after = data?.contents?.savedCursor
  useEffect(() => {
    if (after === undefined) return
    return subscribeToMore({
      document: savedSubscription,
      variables: { after },
      updateQuery: (page, { subscriptionData }) => withRow(page, subscriptionData.data.saved.content),
      // Expired: the page was disconnected for longer than events are kept.
      onError: (problem) => (codeOf(problem) === 'CURSOR_EXPIRED' ? refetch() : setLost(problem)),
    })
  }, [after, refetch, subscribeToMore])
  return { rows: (data?.contents?.edges ?? []).map(({ node }) => node), problem: error ?? lost, refetch }
}

/** A row may be in the page already, and an event may come twice. */
function withRow(page, node) {
  const { edges } = page.contents
  if (edges.some((edge) => edge.node.id === node.id)) return page
  return { contents: { ...page.contents, edges: [{ __typename: 'ContentEdge', node }, ...edges].slice(0, 100) } }
}

function Contents() {
  const { rows, problem, refetch } = useContents()
  return (
    <>
      <Save />
      {problem && (
        <p role="alert">
          {problem.message}{' '}
          <button type="button" onClick={() => refetch()}>
            Try again
          </button>
        </p>
      )}
      <ol>
        {rows.map(({ id, content }) => (
          <li key={id}>{content}</li>
        ))}
      </ol>
    </>
  )
}

function Save() {
  const [save] = useMutation(saveMutation)
  const [state, setState] = useState('')
  async function submit(event) {
    event.preventDefault()
    const form = event.currentTarget
    setState('saving')
    try {
      await saveUntilAccepted((variables) => save({ variables }), { content: new FormData(form).get('content') })
      form.reset()
      setState('saved')
    } catch (error) {
      setState(error.message)
    }
  }
  return (
    <form onSubmit={submit}>
      <input name="content" aria-label="Content" required />
      <button type="submit">Save</button> <output>{state}</output>
    </form>
  )
}

createRoot(document.getElementById('root')).render(
  <ApolloProvider client={client}>
    <Contents />
  </ApolloProvider>,
)
