/**
 * What must not go unnoticed: each breakage takes away one thing that a promise stands on, and names the tests that have to fail then.
 * A breakage is text to find, exactly once, and what to put in its place.
 */
export interface Breakage {
  name: string
  changes: { file: string; find: string; put: string }[]
  /** The test file, and what the names of the tests in it contain, those of their `describe`s before them with " > " between. */
  test: { file: string; name: string }
}

const change = (file: string, find: string, put: string) => ({ file, find, put })

const inOrder = {
  file: 'test/worker/publisher.test.ts',
  name: 'Worker commits, invalidates, marks saved, appends, acknowledges',
}

export const breakages: Breakage[] = [
  {
    name: 'ack before commit',
    changes: [
      change(
        'worker/worker.ts',
        'persisted = await partition.persister.persist(rows)',
        'await this.#consumer.ack(entriesOf(rows))\n      persisted = await partition.persister.persist(rows)',
      ),
    ],
    test: inOrder,
  },
  {
    name: 'publish before commit',
    changes: [
      change(
        'worker/worker.ts',
        "readonly #publisher: Pick<Publisher, 'publish'>",
        "readonly #publisher: Pick<Publisher, 'publish'>\n  #early",
      ),
      change(
        'worker/worker.ts',
        'this.#consumer = consumer\n',
        'this.#consumer = consumer\n    this.#early = events\n',
      ),
      change(
        'worker/worker.ts',
        'persisted = await partition.persister.persist(rows)',
        `await this.#early.append([rows.map(({ row }) => ({ type: 'saved', model: partition.model, row }))])
      persisted = await partition.persister.persist(rows)`,
      ),
    ],
    test: inOrder,
  },
  {
    name: 'cache invalidated after the event',
    changes: [
      change('worker/publisher.ts', 'if (saved.length > 0) await this.#invalidate(saved)', ''),
      change(
        'worker/publisher.ts',
        'const acked = this.#ack(entries, log)',
        'if (saved.length > 0) await this.#invalidate(saved)\n    const acked = this.#ack(entries, log)',
      ),
    ],
    test: inOrder,
  },
  {
    name: 'no event of a redelivered batch that is already committed',
    changes: [
      change(
        'worker/persist.ts',
        'round.saved.push({ row: existing, entries })',
        'round.saved.push({ row: { ...existing, old: true }, entries })',
      ),
      change(
        'worker/persist.ts',
        'saved: saved.map(({ row }) => ({ model: this.#model, row })),',
        'saved: saved.filter(({ row }) => !row.old).map(({ row }) => ({ model: this.#model, row })),',
      ),
    ],
    test: { file: inOrder.file, name: 'publishes the rows of a worker that died after the commit' },
  },
  {
    name: 'group re-created at $',
    changes: [
      change('src/queue/redis-consumer.ts', '  #groupKnown = false\n', "  #groupKnown = false\n  #groupFrom = '0'\n"),
      change(
        'src/queue/redis-consumer.ts',
        "'CREATE', keys.stream, group, '0'",
        "'CREATE', keys.stream, group, this.#groupFrom",
      ),
      change(
        'src/queue/redis-consumer.ts',
        'this.#groupKnown = false\n',
        "this.#groupKnown = false\n      this.#groupFrom = '$'\n",
      ),
    ],
    test: { file: 'test/queue/redis.test.ts', name: 'creates a lost consumer group again' },
  },
  {
    name: 'queue trimmed by length',
    changes: [change('src/queue/lua/enqueue.lua', "'XADD', KEYS[1], '*'", "'XADD', KEYS[1], 'MAXLEN', '1000', '*'")],
    test: { file: 'test/queue/redis.test.ts', name: 'adds a request of 1,000 items, and 1,000 requests of one' },
  },
  {
    name: 'INSERT IGNORE',
    changes: [change('src/db/prisma.ts', '`INSERT INTO', '`INSERT IGNORE INTO')],
    test: {
      file: 'test/worker/persist.test.ts',
      name: 'Persister on MariaDB > for an id that the table has > makes a dead letter ID_CONFLICT of other content',
    },
  },
  {
    name: 'everysec with a power cut',
    changes: [change('test/harness/redis.ts', "appendfsync: 'always'", "appendfsync: 'everysec'")],
    test: { file: 'test/faults/power-cut.test.ts', name: 'always' },
  },
  {
    name: "ioredis' default retries without the id look-up",
    changes: [
      change('src/redis/connection.ts', 'maxRetriesPerRequest: 0,', ''),
      change('src/redis/connection.ts', 'autoResendUnfulfilledCommands: false,', ''),
      change('src/queue/lua/enqueue.lua', 'known = pending[index]', 'known = nil'),
    ],
    test: { file: 'test/app/enqueue-batcher.test.ts', name: 'enqueues no second message after a lost answer' },
  },
  {
    name: 'a retry of a pending save is not looked up',
    changes: [change('src/queue/lua/enqueue.lua', 'known = pending[index]', 'known = nil')],
    test: { file: 'test/queue/model.test.ts', name: 'RedisQueue, in any history' },
  },
  {
    name: 'a zombie acknowledges a later message of the same id',
    changes: [
      change('src/queue/lua/ack.lua', 'value:sub(-#handle) == handle and value:byte(-#handle - 1) == 32', 'true'),
    ],
    test: { file: 'test/queue/model.test.ts', name: 'RedisQueue, in any history' },
  },
  {
    name: 'a dead letter that is retried and stays',
    changes: [change('src/queue/sqlite.sql', 'DELETE FROM letter WHERE seq = ?', 'DELETE FROM letter WHERE seq = -?')],
    test: { file: 'test/queue/model.test.ts', name: 'SqliteQueue, in any history' },
  },
  {
    name: 'an ID_CONFLICT that is retried before the content that its id belongs to',
    changes: [
      change(
        'src/queue/lua/retry.lua',
        "return kindOf(deadLetter.f) == '0' or not firstDeadLetter(KEYS[4], KEYS[5], id, '0')",
        'return true',
      ),
    ],
    test: { file: 'test/app/dead-letters.test.ts', name: 'DeadLetters on RedisQueue > changes only the dead letters' },
  },
  {
    name: 'a run over dead letters that goes on to those that are added meanwhile',
    changes: [change('src/app/dead-letters.ts', 'this.#steps({ olderThan: newest[0]!.handle })', 'this.#steps({})')],
    test: { file: 'test/app/dead-letters.test.ts', name: 'touches nothing twice in a run' },
  },
  {
    name: 'a discard of a dead letter that deletes all of its id',
    changes: [
      change(
        'src/queue/sqlite.sql',
        'DELETE FROM letter WHERE seq = ?',
        'DELETE FROM letter WHERE id = (SELECT id FROM letter WHERE seq = ?)',
      ),
    ],
    test: { file: 'test/app/dead-letters.test.ts', name: 'DeadLetters on SqliteQueue > changes only the dead letters' },
  },
  {
    name: 'a store that writes on to a file whose log is gone',
    changes: [
      change(
        'src/db/node-sqlite.ts',
        '    this.guard.assertWritable()\n    const value = work()\n    this.guard.committed()',
        '    const value = work()',
      ),
      // The look at the table after each insert would find it, too.
      change(
        'src/db/node-sqlite.ts',
        '      this.guard.assertInPlace()\n      this.#schemaVersion ??=',
        '      this.#schemaVersion ??=',
      ),
    ],
    test: { file: 'test/faults/displaced.test.ts', name: 'a SQLite file that loses its -wal > FA6: as the store' },
  },
  {
    name: 'SQLite files that others can read',
    changes: [change('src/sqlite/open.ts', 'tighten([main, wal, shm], note)', '')],
    test: { file: 'test/faults/files.test.ts', name: 'files of a former start are tightened' },
  },
  {
    name: 'receipts that answer from the store while pending',
    changes: [change('src/app/receipts.ts', 'isSame ? +row.createdAt !== saveState.at', 'isSame ? true')],
    test: { file: 'test/app/receipts.test.ts', name: 'the state of a save after each step of its worker' },
  },
  {
    name: 'receipts that say QUEUED after the event',
    changes: [
      change(
        'worker/publisher.ts',
        "await this.#timed('mark_saved', () => consumer.markSaved(entries))",
        'await undefined',
      ),
    ],
    test: { file: 'test/app/receipts.test.ts', name: 'Receipts.find never goes back' },
  },
  {
    name: 'a query shared by readers before and after an invalidation',
    changes: [change('src/app/rows.ts', '`$' + '{version} $' + '{key}`', 'key')],
    test: { file: 'test/app/rows.test.ts', name: 'does not return a slow read that began before the commit' },
  },
  {
    name: 'a gap between wake-ups that is not read from the log',
    changes: [
      change(
        'src/events/follower.ts',
        '!this.#catchingUp && follows(entry, tail)) this.#push',
        '!this.#catchingUp) this.#push',
      ),
    ],
    test: { file: 'test/events/follower.test.ts', name: 'notices a gap by the predecessor and reads the log' },
  },
  {
    name: 'a worker that dead-letters at once what only a newer release can decode',
    changes: [change('worker/sort.ts', 'if (message.newer) newer', 'if (message.newer && !entry) newer')],
    test: { file: 'test/e2e/releases.test.ts', name: 'hands the rest of a newer API back to a newer worker' },
  },
  {
    name: 'an event of an unknown model taken for a damaged one',
    changes: [
      change(
        'src/events/codec.ts',
        "return typeof name === 'string' || (v === 1 && Object.values(item).some(isObject))",
        'return v === 3',
      ),
    ],
    test: { file: 'test/e2e/releases.test.ts', name: 'its streams skip the events of the unknown model' },
  },
  {
    name: 'a released entry whose lease its consumer renews',
    changes: [
      change(
        'src/queue/redis-consumer.ts',
        'release(entries: readonly Entry[]): Promise<void> {\n    this.#forget(entries)',
        'release(entries: readonly Entry[]): Promise<void> {',
      ),
    ],
    test: { file: 'test/queue/redis.test.ts', name: 'returns released entries again when their lease has ended' },
  },
  {
    name: 'a backlog seen in full batches alone',
    changes: [
      change('worker/persist.ts', 'if (this.#options.isBusy?.()) this.seesBacklog()', 'void 0'),
      change('worker/worker.ts', 'if (this.#isBusy) this.#seesBacklog()', 'void 0'),
      // Either of the two saves the rows of the test.
      change('worker/worker.ts', 'if (isFull || isLate(sorted))', 'if (isFull)'),
    ],
    test: { file: 'test/worker/backlog.test.ts', name: 'in a worker that is busy with a slow store' },
  },
  {
    name: 'a digest of the trace, too: a retry would be a conflict',
    changes: [
      change(
        'src/app/save.ts',
        'digestOf(model, values, data)',
        "digestOf(model, values, data + (sending?.context ?? ''))",
      ),
    ],
    test: { file: 'test/e2e/traces.test.ts', name: 'treats a retry of another trace as a duplicate' },
  },
  {
    name: 'savedCursor taken after its page',
    changes: [
      change(
        'src/graphql/model.ts',
        'resolve: (_page, _args, { savedCursor }) => {',
        'resolve: (_page, _args, { app }) => {\n              const savedCursor = app.savedCursor.now',
      ),
    ],
    test: { file: 'test/server/saved-cursor.test.ts', name: 'is taken before the page is read (GraphQL by GET)' },
  },
  {
    name: 'a kept response with the savedCursor of its first request',
    changes: [
      change('src/graphql/fast-path.ts', 'savedCursor: cursorMark }', 'savedCursor: this.#deps.savedCursor.now }'),
    ],
    test: {
      file: 'test/server/saved-cursor.test.ts',
      name: 'moves on with the log although the page stays the same (GraphQL by POST)',
    },
  },
  {
    name: 'a page with savedCursor from a replica',
    changes: [
      change(
        'src/app/rows.ts',
        'const replica = this.#store.hasReplica && !query.primary',
        'const replica = this.#store.hasReplica',
      ),
    ],
    test: { file: 'test/faults/replica.test.ts', name: 'P11: a page with savedCursor has rows that the replica lacks' },
  },
  {
    name: 'a feed that continues behind the entry that wakes it',
    changes: [
      change(
        'src/events/feeds.ts',
        'const from = { position: placeBefore(entry)',
        'const from = { position: entry.position',
      ),
    ],
    test: { file: 'test/events/feeds.test.ts', name: 'P4: each returns exactly the events of its topic' },
  },
  {
    name: 'a heartbeat with a cursor behind events that were not sent',
    changes: [change('src/events/feeds.ts', '(atEnd ? this.#endOfRing() : undefined)', 'this.#endOfRing()')],
    test: { file: 'test/events/feeds.test.ts', name: 'P4: each returns exactly the events of its topic' },
  },
  {
    name: 'a feed that skips entries and loses its events on the way',
    changes: [
      change(
        'src/events/catch-up.ts',
        "return found === 'none' ? entries!.tail : found",
        'return found && entries!.tail',
      ),
    ],
    test: { file: 'test/events/feeds.test.ts', name: 'P4: each returns exactly the events of its topic' },
  },
  {
    name: 'a quiet subscription that keeps its first cursor',
    changes: [
      change('src/graphql/heartbeat.ts', 'return end === sent ? undefined : end', 'return sent && end && undefined'),
    ],
    test: { file: 'test/live/narrowed.test.ts', name: 'that is quiet gets cursors by heartbeats' },
  },
  {
    name: 'a save that is acknowledged without its replicas',
    changes: [
      change(
        'src/queue/redis-replicas.ts',
        "typeof confirmed === 'number' && confirmed >= replicas",
        'confirmed !== undefined',
      ),
    ],
    test: { file: 'test/queue/replicas.test.ts', name: 'RedisQueue acknowledges nothing while its replica is frozen' },
  },
  {
    name: 'an acknowledgement that is repeated without its events',
    changes: [change('worker/publisher.ts', 'if (isRepeated) await events.append(log)', '')],
    test: { file: 'test/worker/publisher.test.ts', name: 'Publisher appends the events again before it repeats' },
  },
  {
    name: 'a client that forgets its cursor',
    changes: [
      change('client/follow.ts', '{ ...by, after: cursor }', '{ ...by, after: tries > 0 ? undefined : cursor }'),
    ],
    test: { file: 'test/faults/client.test.ts', name: 'clients save and follow through cuts' },
  },
  {
    name: 'a client that makes a new id for a retry',
    changes: [change('client/outbox.ts', '({ ...input, id }))', '({ ...input, id: tries > 0 ? uuidv7() : id }))')],
    test: { file: 'test/faults/client.test.ts', name: 'clients save and follow through cuts' },
  },
]
