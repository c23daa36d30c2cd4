/**
 * The posts; with ?post=ID, the comments on one of them. What is saved in one window shows in all of them at once. What is saved without a
 * connection waits in localStorage, also while the page is closed.
 */
import { createClient, localStorageOutbox } from 'spillway-client'
// Types only: nothing of the server is bundled. It is where the models are after docs/models.md.
import type { models } from '../../src/models/index.ts'

const client = createClient<typeof models>(location.origin, { storage: localStorageOutbox() })
const postId = new URLSearchParams(location.search).get('post')

const find = <E extends Element>(selector: string) => document.querySelector<E>(selector)!
const heading = find<HTMLHeadingElement>('h1')
const form = find<HTMLFormElement>('form')
const output = find('output')
const older = find<HTMLButtonElement>('#older')

/** Newest first, as both lists are. */
function show(rows: readonly { id: string; label: string; href?: string }[]): void {
  const items = rows.map(({ id, label, href }) => {
    const item = document.createElement('li')
    item.dataset.id = id
    const content = href ? Object.assign(document.createElement('a'), { href }) : item
    content.textContent = label
    if (content !== item) item.append(content)
    return item
  })
  find('ul').replaceChildren(...items)
}

function save(text: string, rating: number) {
  return postId ? client.comment.save({ postId, body: text, rating }) : client.post.save({ title: text })
}

if (postId) {
  heading.textContent = 'Comments'
  const comments = client.comment.follow({ by: { postId }, first: 20 })
  comments.subscribe(({ rows, state, hasOlder }) => {
    show(rows.map(({ id, body, rating, author }) => ({ id, label: `${author}: ${body} (${rating ?? 'no rating'})` })))
    find('[role=status]').textContent = state
    older.hidden = !hasOlder
  })
  older.onclick = () => comments.loadOlder()
} else {
  heading.textContent = 'Posts'
  form.elements.namedItem('rating')!.remove()
  client.post.follow().subscribe(({ rows, state }) => {
    show(rows.map(({ id, title, author }) => ({ id, label: `${title}, by ${author}`, href: `?post=${id}` })))
    find('[role=status]').textContent = state
  })
}

client.$outbox.subscribe(({ waiting }) => {
  if (waiting > 0) output.textContent = `${waiting} waiting`
})

form.onsubmit = async (event) => {
  event.preventDefault()
  const data = new FormData(form)
  const saving = save(String(data.get('text')), Number(data.get('rating')))
  form.reset()
  try {
    await saving.saved()
    output.textContent = 'saved'
  } catch (error) {
    output.textContent = (error as Error).message
  }
}
