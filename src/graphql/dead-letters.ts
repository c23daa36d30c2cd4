/** The dead letters in GraphQL: their list, retry, discard and edit. */

import { type DeadLetterFilter as FilterShape, isEmpty, reasonLimit } from '../app/dead-letter-filter.ts'
import {
  type DeadLetterChange as ChangeShape,
  type DeadLetterCounts,
  type DecodedDeadLetter,
  type Selection,
  saveIdsLimit,
} from '../app/dead-letters.ts'
import { pageDefault } from '../app/rows.ts'
import type { FailedEvent } from '../events/events.ts'
import { failures } from '../events/topics.ts'
import { checkPage } from '../http/input.ts'
import { badInput, failureCodes } from '../model/error.ts'
import { parseId } from '../model/input.ts'
import type { DeadLetterRange } from '../queue/queue.ts'
import type { Builder, Context } from './builder.ts'
import type { FailureRef, ReceiptRef } from './receipt.ts'
import { eventItself, type FeedField } from './roots.ts'

const scope = { extensions: { scope: 'admin' } }
/** What a page by a filter, or counts, are worth in the limit of rows of an operation: they may read all dead letters. */
const rowsOfScan = 100
const text = (limit: number) => limit.toLocaleString('en')

const idsLimit = 1_000

interface Page {
  filter: FilterShape
  counts?: Promise<DeadLetterCounts>
}

const filterOf = (filter: FilterShape | null | undefined): FilterShape => filter ?? {}

export function addDeadLetters(builder: Builder, { Failure, Receipt }: { Failure: FailureRef; Receipt: ReceiptRef }) {
  addFeed(builder, Failure)
  const types = deadLetterTypes(builder, Failure)
  addList(builder, types)
  addChanges(builder, types)
  addEdit(builder, Receipt)
  return types.DeadLetter
}

function deadLetterTypes(builder: Builder, Failure: FailureRef) {
  const DeadLetter = builder.objectRef<DecodedDeadLetter>('DeadLetter').implement({
    ...scope,
    description: 'A message that could not become a row. It stays until an operator retries or discards it.',
    fields: (t) => ({
      saveId: t.exposeID('id', {
        description:
          'The id of the save; for a message without one, the handle that the queue gave it. Several dead letters may have the same.',
      }),
      model: t.string({
        nullable: true,
        description: 'The model of the save; null if the message cannot be decoded.',
        resolve: ({ save }) => save?.model,
      }),
      input: t.field({
        type: 'JSON',
        nullable: true,
        description: 'The columns of the save, by name; null if the message cannot be decoded.',
        resolve: ({ save }) => save?.input,
      }),
      failure: t.expose('failure', { type: Failure, description: 'Why the message could not become a row.' }),
      acceptedAt: t.field({
        type: 'DateTime',
        nullable: true,
        description: 'When the API received the save; null if the message cannot be decoded.',
        resolve: ({ save }) => save?.acceptedAt,
      }),
    }),
  })

  const DeadLetterFilter = builder.inputType('DeadLetterFilter', {
    description: 'Which dead letters: those for which all of the given conditions hold.',
    fields: (t) => ({
      model: t.string({ description: 'The save is of this model.' }),
      code: t.string({ description: `The code of the failure: ${failureCodes.join(', ')}.` }),
      reason: t.string({
        description: `The message of the failure contains this text, in upper or lower case: at most ${reasonLimit} characters.`,
      }),
      failedAfter: t.field({ type: 'DateTime', description: 'It became a dead letter at this time or later.' }),
      failedBefore: t.field({ type: 'DateTime', description: 'It became a dead letter before this time.' }),
    }),
  })

  const count = { description: 'How many dead letters.' }
  const CodeCount = builder.objectRef<DeadLetterCounts['byCode'][number]>('DeadLetterCodeCount').implement({
    ...scope,
    description: 'How many dead letters have a code.',
    fields: (t) => ({
      code: t.exposeString('code', { description: 'The code of the failure.' }),
      count: t.exposeInt('count', count),
    }),
  })
  const ModelCount = builder.objectRef<DeadLetterCounts['byModel'][number]>('DeadLetterModelCount').implement({
    ...scope,
    description: 'How many dead letters are of a model.',
    fields: (t) => ({
      model: t.exposeString('model', {
        nullable: true,
        description: 'The model of the saves; null for messages that cannot be decoded.',
      }),
      count: t.exposeInt('count', count),
    }),
  })

  const DeadLetterConnection = builder.connectionObject(
    {
      ...scope,
      type: DeadLetter,
      name: 'DeadLetterConnection',
      description: 'A page of dead letters.',
      fields: (t) => ({
        totalCount: t.int({
          description:
            'How many dead letters there are, on all pages. With a filter, this reads all dead letters, step by step.',
          resolve: async (page, _args, context) => {
            const counted = page as unknown as Page
            if (counted.counts === undefined && isEmpty(counted.filter)) return await context.app.deadLetters.count()
            return (await countsOf(counted, context)).total
          },
        }),
        countsByCode: t.field({
          type: [CodeCount],
          description:
            'How many dead letters there are of each code, on all pages; the largest number first. This reads all dead letters, step by step.',
          resolve: async (page, _args, context) => (await countsOf(page as unknown as Page, context)).byCode,
        }),
        countsByModel: t.field({
          type: [ModelCount],
          description:
            'How many dead letters there are of each model, on all pages; the largest number first. This reads all dead letters, step by step.',
          resolve: async (page, _args, context) => (await countsOf(page as unknown as Page, context)).byModel,
        }),
      }),
    },
    { ...scope, name: 'DeadLetterEdge', description: 'A dead letter in a page.' },
  )

  return { DeadLetter, DeadLetterFilter, DeadLetterConnection }
}

/** All counts of a page come from one run through the dead letters. */
function countsOf(page: Page, context: Context): Promise<DeadLetterCounts> {
  if (page.counts === undefined) {
    context.app.reads.ask(context, rowsOfScan)
    page.counts = context.app.deadLetters.counts(page.filter)
  }
  return page.counts
}

type DeadLetteredShape = FailedEvent & { cursor: string }

/** Every failure, from the client's cursor on. The worker dead-letters a message before it appends the event. */
function addFeed(builder: Builder, Failure: FailureRef): void {
  const DeadLettered = builder.objectRef<DeadLetteredShape>('DeadLettered').implement({
    ...scope,
    description:
      'A message became a dead letter. `deadLetters` of every process lists it until it is retried or discarded.',
    fields: (t) => ({
      cursor: t.exposeString('cursor', { description: 'The position after this event, for `deadLettered(after:)`.' }),
      saveId: t.exposeID('id', {
        description:
          'The id of the save; for a message without one, the handle that the queue gave it, as in `deadLetters`.',
      }),
      model: t.exposeString('model', {
        nullable: true,
        description: 'The model of the save; null if the message cannot be decoded.',
      }),
      failure: t.expose('failure', { type: Failure, description: 'Why the message could not become a row.' }),
    }),
  })
  const feed: FeedField = {
    topic: () => failures,
    root: (cursor, event): DeadLetteredShape => ({ ...(event as FailedEvent), cursor }),
  }
  builder.subscriptionField('deadLettered', (t) =>
    t.field({
      type: DeadLettered,
      extensions: { scope: 'admin', shared: true, feed },
      description:
        'Every message that became a dead letter, in the order of the events log. A message that fails again after a retry comes again. To miss none, subscribe first, then read `deadLetters`. A worker that crashes between a dead letter and its event sends no event: `queue { deadLetters }` counts those, too.',
      args: {
        after: t.arg.string({
          description:
            'The cursor of the last event received, or the `savedCursor` of a page. Without it the stream begins now.',
        }),
      },
      subscribe: () => {
        throw new Error('FeedStreams serves this field')
      },
      resolve: eventItself<DeadLetteredShape>,
    }),
  )
}

type Types = ReturnType<typeof deadLetterTypes>

function addList(builder: Builder, { DeadLetterFilter, DeadLetterConnection }: Types): void {
  builder.queryField('deadLetters', (t) =>
    t.field({
      ...scope,
      type: DeadLetterConnection,
      nullable: true,
      description:
        'Dead letters, newest first. A page ends sooner where the dead letters are large: it has at most about 4 MB.',
      args: {
        first: t.arg.int({
          description: 'The number of dead letters to read from the beginning: at most 100; 20 without first and last.',
        }),
        after: t.arg.string({ description: 'Read the dead letters after the edge with this cursor.' }),
        last: t.arg.int({
          description: 'The number of dead letters to read from the end: at most 100. Not together with first.',
        }),
        before: t.arg.string({ description: 'Read the dead letters before the edge with this cursor.' }),
        filter: t.arg({ type: DeadLetterFilter, description: 'Which dead letters; all without it.' }),
      },
      resolve: async (_root, args, context) => {
        checkPage(args)
        const isBackward = args.last != null
        const { deadLetters, more } = await read(args.last ?? args.first ?? pageDefault, {
          // The newest comes first, so that an edge after a cursor is an older one.
          range: { olderThan: args.after ?? undefined, newerThan: args.before ?? undefined, newestFirst: !isBackward },
          filter: filterOf(args.filter),
          context,
        })
        if (isBackward) deadLetters.reverse()
        const edges = deadLetters.map((node) => ({ cursor: node.handle, node }))
        const page: Page = { filter: filterOf(args.filter) }
        return {
          ...page,
          edges,
          pageInfo: {
            hasNextPage: isBackward ? args.before != null : more,
            hasPreviousPage: isBackward ? more : args.after != null,
            startCursor: edges[0]?.cursor ?? null,
            endCursor: edges.at(-1)?.cursor ?? null,
          },
        }
      },
    }),
  )
}

async function read(
  size: number,
  { range, filter, context }: { range: DeadLetterRange; filter: FilterShape; context: Context },
) {
  const { reads, deadLetters } = context.app
  reads.ask(context, isEmpty(filter) ? size : rowsOfScan)
  const page = await deadLetters.page(size, range, filter)
  reads.got(
    context,
    page.deadLetters.reduce((sum, { body }) => sum + body.length, 0),
  )
  return page
}

function addChanges(builder: Builder, { DeadLetterFilter }: Types): void {
  const DeadLetterChange = builder.objectRef<ChangeShape>('DeadLetterChange').implement({
    ...scope,
    description: 'Which dead letters were retried or discarded, or would be.',
    fields: (t) => ({
      count: t.exposeInt('count', { description: 'How many dead letters.' }),
      saveIds: t.exposeIDList('saveIds', {
        description: `The ids of their saves, each once: the first ${text(saveIdsLimit)} of them.`,
      }),
    }),
  })

  builder.mutationFields((t) => {
    const args = {
      ids: t.arg.idList({
        description: `The ids of the saves; at most ${text(idsLimit)}. Either ids or a filter must be given.`,
      }),
      filter: t.arg({
        type: DeadLetterFilter,
        description:
          'Which dead letters, of those that there are when the run begins. It needs at least one condition.',
      }),
      dryRun: t.arg.boolean({ description: 'Changes nothing, and answers what would be done now.' }),
    }
    return {
      retryDeadLetters: t.field({
        ...scope,
        type: DeadLetterChange,
        nullable: true,
        description:
          'Enqueues dead letters again, with their ids: of each id one, those without the code ID_CONFLICT first, and none while the id is pending.',
        args,
        resolve: (_root, given, { app, grant }) =>
          app.deadLetters.retry(selectionOf(given), { dryRun: given.dryRun ?? false, by: grant.subject }),
      }),
      discardDeadLetters: t.field({
        ...scope,
        type: DeadLetterChange,
        nullable: true,
        description: 'Deletes dead letters permanently: all that match the filter, or all that the ids have.',
        args,
        resolve: (_root, given, { app, grant }) =>
          app.deadLetters.discard(selectionOf(given), { dryRun: given.dryRun ?? false, by: grant.subject }),
      }),
    }
  })
}

function addEdit(builder: Builder, Receipt: ReceiptRef): void {
  builder.mutationField('editDeadLetter', (t) =>
    t.field({
      ...scope,
      type: Receipt,
      nullable: true,
      description:
        'Gives a dead letter other columns and enqueues it again, with its id and its `acceptedAt`. Of several dead letters of an id, it takes the one without the code ID_CONFLICT. A save with the id and the old columns is a conflict from then on.',
      args: {
        id: t.arg.id({ required: true, description: 'The id of the save.' }),
        input: t.arg({
          type: 'JSON',
          required: true,
          description:
            'All columns by name, as `DeadLetter.input` has them; a column that is left out gets its default, or null. Columns that were set from the token of the client stay as they are.',
        }),
      },
      resolve: (_root, { id, input }, { app, grant }) => app.deadLetters.edit({ id: parseId(id) ?? id, input }, grant),
    }),
  )
}

interface Given {
  ids?: readonly string[] | null | undefined
  filter?: FilterShape | null | undefined
}

/** A dead letter has the id of its message; one without an id has the queue's handle instead. */
function selectionOf({ ids, filter }: Given): Selection {
  if (ids != null && filter != null) throw badInput('ids and filter cannot be used together; give one of them')
  if (ids == null && filter == null) throw badInput('give ids, or a filter with at least one condition')
  if (filter != null) {
    if (isEmpty(filter))
      throw badInput('filter is empty; give at least one of model, code, reason, failedAfter and failedBefore')
    return { filter }
  }
  if (ids!.length === 0) throw badInput('ids is empty; give the id of at least one save, or a filter')
  if (ids!.length > idsLimit) throw badInput(`at most ${text(idsLimit)} ids may be named at once, got ${ids!.length}`)
  return { ids: ids!.map((id) => parseId(id) ?? id) }
}
