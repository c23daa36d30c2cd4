import { useEffect, useState } from 'react'
import { createRoot } from 'react-dom/client'
import { gql, Provider, useMutation, useQuery, useSubscription } from 'urql'
import { client } from './client.js'
import { saveUntilAccepted } from './save.js'

const pageQuery = gql`query { contents(first: 20) { savedCursor edges { node { id content } } } }`
const savedSubscription = gql`subscription ($after: String) { saved(after: $after) { cursor content { id content } } }`
const saveMutation = gql`mutation ($id: ID!, $content: String!) { save(id: $id, content: $content) { saveId status } }`

/** A page of the newest rows, and every row that is saved after it: `savedCursor` is where the events stood before the page was read. */
function useContents() {
  const [page, readPage] = useQuery({ query: pageQuery })
  const contents = page.data?.contents
  const [live] = useSubscription(
    { query: savedSubscription, variables: { after: contents?.savedCursor }, pause: !contents },
    (rows = [], { saved }) => [saved.content, ...rows].slice(0, 100),
  )
  const problem = page.error ?? live.error
  const isExpired = problem?.graphQLErrors[0]?.extensions.code === 'CURSOR_EXPIRED'
  useEffect(() => {
    // The page was disconnected for longer than events are kept.
    if (isExpired) readPage()
  }, [isExpired, readPage])
  const rows = [...(live.data ?? []), ...(contents?.edges ?? []).map(({ node }) => node)]
  // A row may be in both, and an event may come twice.
  return { rows: [...new Map(rows.map((row) => [row.id, row])).values()], problem, readPage }
}

function Contents() {
  const { rows, problem, readPage } = useContents()
  return (
    <>
      <Save />
      {problem && (
        <p role="alert">
          {problem.message}{' '}
          <button type="button" onClick={readPage}>
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
  const [, save] = useMutation(saveMutation)
  const [state, setState] = useState('')
  async function submit(event) {
    event.preventDefault()
    const form = event.currentTarget
    setState('saving')
    try {
      await saveUntilAccepted(save, { content: new FormData(form).get('content') })
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
  <Provider value={client}>
    <Contents />
  </Provider>,
)
