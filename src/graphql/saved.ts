/** The `saved` subscription: every content, in the log's order, from wherever the client was. */

import { formatCursor, parseCursor } from '../events/events.ts'
import type { FeedEvent } from '../events/follower.ts'
import type { Content as ContentShape } from '../model/content.ts'
import { badInput } from '../model/error.ts'
import { asyncIterator } from './async-iterator.ts'
import { builder } from './builder.ts'
import { Content } from './content.ts'

interface Saved {
  cursor: string
  content: ContentShape
}

const SavedEvent = builder.objectRef<Saved>('SavedEvent').implement({
  description: 'A content was saved: `contents` shows it, whichever process is asked.',
  extensions: { scope: 'read' },
  fields: (t) => ({
    cursor: t.exposeString('cursor', { description: 'Resume behind this event with `saved(after:)`.' }),
    content: t.expose('content', { type: Content, description: 'The content that was saved.' }),
  }),
})

builder.subscriptionField('saved', (t) =>
  t.field({
    type: SavedEvent,
    extensions: { scope: 'read', shared: true },
    description: 'Every saved content, in the order of the events log.',
    args: { after: t.arg.string({ description: 'The cursor of the last event seen; left out: from now on.' }) },
    subscribe: async (_root, { after }, { app }) => {
      const cursor = after == null ? undefined : parseCursor(after)
      if (after != null && !cursor) throw badInput('after is not a cursor; use one that a `saved` event gave')
      const feed = await app.follower.feed(cursor)
      let events: FeedEvent[] = []
      return asyncIterator<Saved>(
        async () => {
          for (;;) {
            const next = events.shift()
            if (!next) {
              const more = await feed.next()
              if (!more) return undefined
              events = [...more]
            } else if (next.event.type === 'saved') {
              return { cursor: formatCursor(next.cursor), content: next.event.content }
            }
          }
        },
        () => feed.close(),
      )
    },
    resolve: (saved) => saved,
  }),
)
