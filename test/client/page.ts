/** The script of the tests' page: the client, and a component with both hooks. */
import { createElement, StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { createClient, indexedDbOutbox, localStorageOutbox } from '../../client/index.ts'
import { useFollow, useSave } from '../../client/react.ts'

const client = () => createClient(location.origin, { storage: localStorageOutbox() })

function Comments({ postId, of }: { postId: string; of: ReturnType<typeof client> }) {
  const { rows, state } = useFollow(of.comment!, { by: { postId }, first: 10 })
  const { save, ...last } = useSave(of.comment!)
  const add = () => void save({ postId, body: `comment ${rows.length + 1}` })
  return createElement(
    'main',
    {},
    createElement('p', { id: 'state' }, state),
    createElement('p', { id: 'last' }, last.state ?? 'none'),
    createElement('button', { type: 'button', onClick: add }, 'Add'),
    createElement('ul', {}, ...rows.map(({ id, body }) => createElement('li', { key: id }, body))),
  )
}

Object.assign(globalThis, {
  spillway: {
    createClient,
    indexedDbOutbox,
    localStorageOutbox,
    show(postId: string) {
      const of = client()
      createRoot(document.body).render(createElement(StrictMode, {}, createElement(Comments, { postId, of })))
      return of
    },
  },
})
