// Calls back with a page of the newest contents, then with every content that is saved. One may come twice; it has an id. If the cursor has
// expired (an hour offline), it calls back with a new page.
export async function show(url, onPage, onSaved) {
  const again = () => setTimeout(show, 1000, url, onPage, onSaved)
  const query = '{ page: contents(first: 50) { savedCursor edges { node { id content } } } }'
  const request = fetch(`${url}/graphql?${new URLSearchParams({ query })}`).then((answer) => answer.json())
  const { data } = await request.catch(() => ({}))
  if (!data?.page) return again()
  onPage(data.page.edges.map(({ node }) => node))
  follow(url, data.page.savedCursor, onSaved, again) // after CURSOR_EXPIRED, it reads a page again
}

// Calls back with every content saved after the cursor, and with the cursor for the next start, which may be half an hour later.
export function follow(url, cursor, onSaved, onExpired) {
  const query = 'subscription ($after: String) { saved(after: $after) { cursor content { id content } } }'
  const search = new URLSearchParams({ query, variables: JSON.stringify({ after: cursor }) })
  const events = new EventSource(`${url}/graphql?${search}`) // reconnects by itself, after the last event it received
  events.addEventListener('next', (event) => {
    const { data, errors } = JSON.parse(event.data)
    if (errors?.[0].extensions.code === 'CURSOR_EXPIRED') return onExpired(events.close())
    cursor = data?.saved.cursor ?? cursor
    if (data) onSaved(data.saved.content, cursor)
  }) // after a 502, for example, it does not reconnect by itself
  events.onerror = () => events.readyState === 2 && setTimeout(follow, 1000, url, cursor, onSaved, onExpired)
}
