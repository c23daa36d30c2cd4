/** The history in GraphQL. It needs the scope admin. */
import type { History, HistoryPoint, HistoryRange, Quantiles } from '../app/history.ts'
import type { Builder } from './builder.ts'

const scope = { extensions: { scope: 'admin' } } as const

export function addHistory(builder: Builder): void {
  const Range = builder.enumType('QueueHistoryRange', {
    description: 'How far back a history goes.',
    values: {
      FIVE_MINUTES: { description: 'Points of 5 seconds.' },
      HOUR: { description: 'Points of 15 seconds.' },
      DAY: { description: 'Points of 5 minutes.' },
    } as const,
  })
  const Durations = builder.objectRef<Quantiles>('QueueDurations').implement({
    ...scope,
    description: 'Durations in milliseconds, counted in steps of a fifth.',
    fields: (t) => ({
      p50: t.exposeFloat('p50', { description: 'Half of them took at most this.' }),
      p95: t.exposeFloat('p95', { description: '95 % of them took at most this.' }),
      p99: t.exposeFloat('p99', { description: '99 % of them took at most this.' }),
    }),
  })
  const Point = builder.objectRef<HistoryPoint>('QueueHistoryPoint').implement({
    ...scope,
    description:
      'What was counted in one step. A value that no process counted is null; zero means that nothing happened.',
    fields: (t) => {
      const rate = (name: 'accepted' | 'refused' | 'persisted' | 'deadLettered', description: string) =>
        t.float({ nullable: true, description, resolve: (point) => point[name] })
      return {
        at: t.expose('at', { type: 'DateTime', description: 'When it begins.' }),
        apis: t.exposeFloat('apis', { description: 'How many API processes counted, on average.' }),
        workers: t.exposeFloat('workers', { description: 'How many workers counted, on average.' }),
        accepted: rate('accepted', 'Saves acknowledged per second.'),
        refused: rate('refused', 'Saves refused per second.'),
        persisted: rate('persisted', 'Rows committed per second.'),
        deadLettered: rate('deadLettered', 'Messages dead-lettered per second.'),
        backlog: t.int({
          nullable: true,
          description: 'The depth of the queue at its end, of all models.',
          resolve: ({ backlog }) => backlog,
        }),
        ack: t.field({
          type: Durations,
          nullable: true,
          description: 'From a save to its acknowledgement; null where there was none.',
          resolve: ({ ack }) => ack,
        }),
        saveToEvent: t.field({
          type: Durations,
          nullable: true,
          description: 'From a save to its event; null where there was none.',
          resolve: ({ saveToEvent }) => saveToEvent,
        }),
      }
    },
  })
  const HistoryType = builder.objectRef<History>('QueueHistory').implement({
    ...scope,
    description: 'What all processes counted. Where no process counted, there is no point.',
    fields: (t) => ({
      from: t.expose('from', { type: 'DateTime', description: 'When it begins.' }),
      to: t.expose('to', { type: 'DateTime', description: 'When it ends; the step that is not complete is left out.' }),
      stepMs: t.exposeInt('stepMs', { description: 'The length of a step, in milliseconds.' }),
      points: t.expose('points', { type: [Point], description: 'Oldest first, at most 300.' }),
    }),
  })
  builder.queryField('queueHistory', (t) =>
    t.field({
      ...scope,
      type: HistoryType,
      nullable: true,
      description: 'Rates, durations and backlog of the last five minutes, hour or day.',
      args: {
        range: t.arg({ type: Range, required: true, description: 'How far back it goes.' }),
        model: t.arg.string({ description: 'The name of a model, one of the first 8; left out: all models together.' }),
      },
      resolve: (_root, { range, model }, { app }) => app.history.read(range as HistoryRange, model ?? undefined),
    }),
  )
}
