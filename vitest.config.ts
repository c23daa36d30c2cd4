import { createRequire } from 'node:module'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** The files that take longer than 25 s, the longest one first, so that the last ones end together. */
const longest = [
  'faults/workers',
  'faults/blame',
  'faults/galera',
  'faults/redis',
  'live/slow',
  'faults/database',
  'faults/moves',
  'faults/cluster',
  'e2e/shards',
  'faults/sentinel',
  'abuse/bytes',
  'faults/displaced',
  'faults/replicated',
  'faults/client',
  'clients/conformance',
  'live/leak',
  'packaging/package',
  'e2e/readiness',
  'console/trouble',
  'console/letters',
  'console/several',
  'console/console',
  'abuse/floods',
  'faults/embedded',
  'worker/newer',
  'db/migration-command',
  'abuse/connections',
  'models/guide',
  'worker/partitions',
  'faults/blame-embedded',
  'live/clients',
  'e2e/releases',
  'live/read-after-event',
  'live/snapshot',
  'live/resume',
  'process/start',
  'live/narrowed',
  'process/log',
  'e2e/history',
  'e2e/operators',
  'db/faults',
  'e2e/traces',
  'live/multipart',
  'abuse/documents',
  'worker/backlog',
  'live/dead-lettered',
  'live/gap',
  'live/receipts',
  'app/receipts',
  'models/two-models',
  'harness/failpoints',
  'events/follower',
  'faults/round-trip',
  'live/ways',
  'e2e/main-job',
  'models/changed',
  'models/every-type',
  'faults/files',
  'queue/sqlite',
  'queue/model',
  'abuse/dead-letters',
  'process/secrets',
  'abuse/repeating',
]

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const index = longest.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`))
      return index === -1 ? longest.length : index
    }
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b))
  }
}

// Real servers, real processes: files run three at a time, each in a process of its own, on one shared Redis and MariaDB. A file uses half
// of a core: the rest of its time is the waiting that its faults are about.
export default defineConfig({
  // As Node resolves it: Vite would take graphql's `module`, and then there are two of it.
  resolve: { alias: [{ find: /^graphql$/, replacement: createRequire(import.meta.url).resolve('graphql') }] },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/harness/servers.ts'],
    environment: 'node',
    pool: 'forks',
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    execArgv: ['--disable-warning=ExperimentalWarning'],
    // A bound for what hangs: on a busy machine a start alone may take 20 s.
    testTimeout: 60_000,
    // The first one on a machine makes a MariaDB data directory.
    hookTimeout: 90_000,
    // A file that leaves something behind that cannot be closed in this time fails the run.
    teardownTimeout: 10_000,
    reporters: ['default'],
  },
})
