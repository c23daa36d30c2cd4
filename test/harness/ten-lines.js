// Calls back with every saved content, and with the cursor for the next start. A client that was offline for half an hour misses nothing.
export function follow(url, cursor, onSaved, onExpired) {
  const query = 'subscription ($after: String) { saved(after: $after) { cursor content { id content } } }'
  const search = new URLSearchParams({ query, variables: JSON.stringify({ after: cursor }) })
  const events = new EventSource(`${url}/graphql?${search}`) // reconnects by itself, after the last event it received
  events.addEventListener('next', (event) => {
    const { data, errors } = JSON.parse(event.data)
    if (errors?.[0].extensions.code === 'CURSOR_EXPIRED') return onExpired(events.close()) // follow without a cursor, then read `contents`
    cursor = data?.saved.cursor ?? cursor
    if (data) onSaved(data.saved.content, cursor)
  }) // after a 502, for example, it does not reconnect by itself
  events.onerror = () => events.readyState === 2 && setTimeout(follow, 1000, url, cursor, onSaved, onExpired)
}
