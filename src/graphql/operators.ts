/** What operators see and do in GraphQL: workers, conditions, pause and resume. All of it needs the scope admin. */
import type { Condition, WorkerInfo } from '../app/operators.ts'
import type { HeldRows, Pause } from '../queue/operations.ts'
import type { QueueStatus } from '../queue/queue.ts'
import type { Builder } from './builder.ts'

const scope = { extensions: { scope: 'admin' } } as const

type QueueRef = ReturnType<typeof refOfQueue>
const refOfQueue = (builder: Builder) => builder.objectRef<QueueStatus>('Queue')

export function addPause(builder: Builder) {
  return builder.objectRef<Pause>('QueuePause').implement({
    ...scope,
    description: 'Persisting is paused: workers finish what they have received, and receive nothing new. Saves go on.',
    fields: (t) => ({
      since: t.field({
        type: 'DateTime',
        description: 'When it was paused.',
        resolve: ({ since }) => new Date(since),
      }),
      by: t.string({
        nullable: true,
        description: 'The subject of the token that paused it; null where no token was needed.',
        resolve: ({ by }) => by,
      }),
    }),
  })
}

export function addOperators(builder: Builder, Queue: QueueRef): void {
  const WorkerError = addWorkerError(builder)
  addWorkers(builder, WorkerError)
  addConditions(builder, WorkerError)
  builder.mutationFields((t) => ({
    pausePersisting: t.field({
      ...scope,
      type: Queue,
      nullable: true,
      description:
        'Pauses persisting in all workers, durably, and returns the state of the queue. Workers receive nothing new after at most two seconds. Saves are accepted up to the capacity. Nothing changes where it is paused already.',
      resolve: (_root, _args, { app, grant }) => app.operators.pause(grant),
    }),
    resumePersisting: t.field({
      ...scope,
      type: Queue,
      nullable: true,
      description: 'Resumes persisting, and returns the state of the queue.',
      resolve: (_root, _args, { app, grant }) => app.operators.resume(grant),
    }),
  }))
}

type LastError = NonNullable<WorkerInfo['lastError']>
type ErrorRef = ReturnType<typeof addWorkerError>

function addWorkerError(builder: Builder) {
  return builder.objectRef<LastError>('QueueWorkerError').implement({
    ...scope,
    description: 'A warning or an error of a worker. Its log has the rest.',
    fields: (t) => ({
      at: t.expose('at', { type: 'DateTime', description: 'When it was logged.' }),
      message: t.exposeString('message', {
        description: 'The beginning of the line in the log, at most 200 characters.',
      }),
      code: t.string({
        nullable: true,
        description: "The database's or the queue's code, where there is one.",
        resolve: ({ code }) => code,
      }),
    }),
  })
}

function addWorkers(builder: Builder, WorkerError: ErrorRef): void {
  const WorkerState = builder.enumType('QueueWorkerState', {
    description: 'What a worker does.',
    values: {
      WORKING: { description: 'It receives entries, and persists them.' },
      WAITING: { description: 'It waits for a table that takes no rows. It persists the rows of other models.' },
      PAUSED: { description: 'It receives nothing, because persisting is paused.' },
      STOPPED: { description: 'It has stopped as it was told to.' },
      GONE: { description: 'It has reported nothing for 12 seconds: it was killed, or it cannot reach the queue.' },
    } as const,
  })
  const Held = builder.objectRef<HeldRows>('QueueWorkerHeld').implement({
    ...scope,
    description: 'What a worker holds of one model.',
    fields: (t) => ({
      model: t.string({
        nullable: true,
        description: 'The name of the model; null: of entries that need no table.',
        resolve: ({ model }) => model,
      }),
      inFlight: t.exposeInt('inFlight', { description: 'Entries that it has received and not finished.' }),
      parked: t.exposeInt('parked', { description: 'Rows that failed alone and are retried.' }),
      waitingSince: t.field({
        type: 'DateTime',
        nullable: true,
        description: "Since when it waits for the model's table; null: it does not.",
        resolve: ({ waitingSince }) => (waitingSince === undefined ? null : new Date(waitingSince)),
      }),
      waitingCode: t.string({
        nullable: true,
        description: "The database's code, while it waits.",
        resolve: ({ waitingCode }) => waitingCode,
      }),
    }),
  })
  const WorkerType = builder.objectRef<WorkerInfo>('QueueWorker').implement({
    ...scope,
    description: 'A worker: a process, or the thread of an embedded queue. It reports every three seconds.',
    fields: (t) => ({
      name: t.exposeString('name', { description: 'As its consumer is named: host, process, and a random part.' }),
      state: t.expose('state', { type: WorkerState, description: 'What it does.' }),
      host: t.exposeString('host', { description: 'The name of its machine.' }),
      pid: t.exposeInt('pid', { description: 'The number of its process.' }),
      release: t.exposeString('release', { description: 'The release of Spillway that it runs.' }),
      startedAt: t.expose('startedAt', { type: 'DateTime', description: 'When it was started.' }),
      seenAt: t.expose('seenAt', { type: 'DateTime', description: 'When it reported last.' }),
      endedAt: t.field({
        type: 'DateTime',
        nullable: true,
        description: 'Of one that is STOPPED or GONE: its last report. It is listed for a day.',
        resolve: ({ endedAt }) => endedAt,
      }),
      rowsPerSecond: t.exposeFloat('rowsPerSecond', { description: 'Rows committed per second, between two reports.' }),
      held: t.expose('held', { type: [Held], description: 'What it holds, of at most 20 models.' }),
      lastError: t.field({
        type: WorkerError,
        nullable: true,
        description: 'Its last warning or error.',
        resolve: ({ lastError }) => lastError,
      }),
    }),
  })
  builder.queryField('queueWorkers', (t) =>
    t.field({
      ...scope,
      type: [WorkerType],
      nullable: true,
      description: 'The workers: those that run, then those that have ended within a day, latest first; at most 100.',
      resolve: (_root, _args, { app }) => app.operators.workers(),
    }),
  )
}

function addConditions(builder: Builder, WorkerError: ErrorRef): void {
  const Kind = builder.enumType('QueueConditionKind', {
    description: 'What is wrong.',
    values: {
      QUEUE_UNAVAILABLE: { description: 'The queue does not answer: saves are refused.' },
      NO_WORKER: { description: 'No worker runs: saves are accepted, and nothing is persisted.' },
      DATABASE_UNAVAILABLE: { description: 'Workers wait for tables that take no rows.' },
      PAUSED: { description: 'Persisting is paused.' },
      QUEUE_FULL: { description: 'The queue is at its capacity: saves are refused.' },
      QUEUE_GROWS: { description: 'The oldest message has been waiting for more than ten seconds.' },
    } as const,
  })
  const ConditionType = builder.objectRef<Condition>('QueueCondition').implement({
    ...scope,
    description: 'Something that is wrong.',
    fields: (t) => ({
      kind: t.expose('kind', { type: Kind, description: 'What is wrong.' }),
      since: t.field({
        type: 'DateTime',
        nullable: true,
        description: 'Since when; null if that is not known.',
        resolve: ({ since }) => since,
      }),
      models: t.exposeStringList('models', {
        description: 'With DATABASE_UNAVAILABLE: the models whose tables take no rows.',
      }),
      code: t.string({
        nullable: true,
        description: "With DATABASE_UNAVAILABLE the database's code; with QUEUE_UNAVAILABLE that of the error.",
        resolve: ({ code }) => code,
      }),
      lastError: t.field({
        type: WorkerError,
        nullable: true,
        description: 'With NO_WORKER and DATABASE_UNAVAILABLE: the last warning or error of the workers.',
        resolve: ({ lastError }) => lastError,
      }),
    }),
  })
  builder.queryField('queueConditions', (t) =>
    t.field({
      ...scope,
      type: [ConditionType],
      nullable: true,
      description: 'What is wrong now, the worst first. Empty: Spillway accepts saves and persists them.',
      resolve: (_root, _args, { app }) => app.operators.conditions(),
    }),
  )
}
