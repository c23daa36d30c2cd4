/** The `saved` subscription: every saved content, in the order of the events log, from the client's cursor on. */
import { formatCursor } from '../events/events.ts'
import type { Content as ContentShape } from '../model/content.ts'
import { builder } from './builder.ts'
import { Content } from './content.ts'
import type { FeedField } from './roots.ts'

interface Saved {
  cursor: string
  content: ContentShape
}

const SavedEvent = builder.objectRef<Saved>('SavedEvent').implement({
  description: 'A content was saved. `contents` of every process returns it.',
  extensions: { scope: 'read' },
  fields: (t) => ({
    cursor: t.exposeString('cursor', { description: 'The position after this event, for `saved(after:)`.' }),
    content: t.expose('content', { type: Content, description: 'The content that was saved.' }),
  }),
})

const feed: FeedField = {
  read: ({ cursor, event }) =>
    event.type === 'saved' ? { cursor: formatCursor(cursor), content: event.content } : undefined,
}

builder.subscriptionField('saved', (t) =>
  t.field({
    type: SavedEvent,
    extensions: { scope: 'read', shared: true, feed },
    description: 'Every saved content, in the order of the events log.',
    args: {
      after: t.arg.string({ description: 'The cursor of the last event received. Without it the stream begins now.' }),
    },
    subscribe: () => {
      throw new Error('FeedStreams serves this field')
    },
    resolve: (saved: Saved) => saved,
  }),
)
