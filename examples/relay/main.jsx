import { Component, Suspense, useMemo, useState } from 'react'
import { createRoot } from 'react-dom/client'
import { graphql, RelayEnvironmentProvider, useLazyLoadQuery, useSubscription } from 'react-relay'
import { commitMutation } from 'relay-runtime'
import { environment } from './environment.js'
import { saveUntilAccepted } from './save.js'

const pageQuery = graphql`
  query mainPageQuery {
    contents(first: 20) @connection(key: "main_contents") {
      __id
      savedCursor
      edges { node { id content } }
    }
  }
`
const savedSubscription = graphql`
  subscription mainSavedSubscription($after: String, $connections: [ID!]!) {
    saved(after: $after) {
      cursor
      content @prependNode(connections: $connections, edgeTypeName: "ContentEdge") { id content }
    }
  }
`
const saveMutation = graphql`
  mutation mainSaveMutation($id: ID!, $content: String!) {
    save(id: $id, content: $content) { saveId status }
  }
`

/** Where the subscription has to begin again, a page is read again. */
function Page() {
  const [read, setRead] = useState(0)
  const { contents } = useLazyLoadQuery(pageQuery, {}, { fetchKey: read, fetchPolicy: 'network-only' })
  return (
    <>
      <Save />
      {contents ? (
        <Contents key={read} contents={contents} onEnd={() => setRead(read + 1)} />
      ) : (
        <p role="alert">
          The page cannot be read now.{' '}
          <button type="button" onClick={() => setRead(read + 1)}>
            Try again
          </button>
        </p>
      )}
    </>
  )
}

/** A page of the newest rows, and every row that is saved after it: `savedCursor` is where the events stood before the page was read. */
function Contents({ contents, onEnd }) {
  const { __id: connection, edges } = contents
  // As it was when the page was read: a subscription that goes on is not begun again.
  const [after] = useState(contents.savedCursor)
  const subscription = useMemo(() => {
    const variables = { after, connections: [connection] }
    // Such as CURSOR_EXPIRED: the page was disconnected for longer than events are kept.
    return { subscription: savedSubscription, variables, onError: onEnd }
  }, [after, connection])
  // Relay adds no row to a connection that has it already.
  useSubscription(subscription)
  return (
    <ol>
      {edges.map(({ node }) => (
        <li key={node.id}>{node.content}</li>
      ))}
    </ol>
  )
}

/** A query that gets no answer throws while it renders. */
class Boundary extends Component {
  state = { error: undefined }
  static getDerivedStateFromError(error) {
    return { error }
  }
  render() {
    if (!this.state.error) return this.props.children
    return (
      <p role="alert">
        {this.state.error.message}{' '}
        <button type="button" onClick={() => this.setState({ error: undefined })}>
          Try again
        </button>
      </p>
    )
  }
}

/** Relay gives the mutation's errors, or what was thrown where there was no answer. */
const commit = (variables) =>
  new Promise((resolve) =>
    commitMutation(environment, {
      mutation: saveMutation,
      variables,
      onCompleted: (_, errors) => resolve(errors?.[0]),
      onError: (error) => resolve(error.source?.errors?.[0] ?? error),
    }),
  )

function Save() {
  const [state, setState] = useState('')
  async function submit(event) {
    event.preventDefault()
    const form = event.currentTarget
    setState('saving')
    try {
      await saveUntilAccepted(commit, { content: new FormData(form).get('content') })
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
  <RelayEnvironmentProvider environment={environment}>
    <Boundary>
      <Suspense fallback="…">
        <Page />
      </Suspense>
    </Boundary>
  </RelayEnvironmentProvider>,
)
