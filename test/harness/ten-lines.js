// Calls back with every content that is saved. Keep `cursor`, and even a client that was away for half an hour misses nothing.
function follow(url, onSaved, onExpired, cursor) {
  const query = 'subscription ($after: String) { saved(after: $after) { cursor content { id content } } }'
  const search = new URLSearchParams({ query, variables: JSON.stringify({ after: cursor }) })
  const events = new EventSource(`${url}/graphql?${search}`) // comes back by itself, behind the last event
  events.addEventListener('next', ({ data: text }) => {
    const { data, errors } = JSON.parse(text)
    if (data) onSaved(data.saved.content, (cursor = data.saved.cursor))
    else if (errors[0].extensions.code === 'CURSOR_EXPIRED') onExpired(events.close()) // read `contents`, follow anew
  })
  events.onerror = () => events.readyState === 2 && setTimeout(follow, 1000, url, onSaved, onExpired, cursor)
}
