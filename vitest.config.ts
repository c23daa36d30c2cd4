import { createRequire } from 'node:module'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Files to begin first, the longest one first, so that the last ones end together. */
const longest = [
  'faults/workers',
  'faults/database',
  'faults/galera',
  'faults/redis',
  'faults/displaced',
  'live/slow',
  'live/leak',
  'live/gap',
  'live/snapshot',
  'live/narrowed',
  'live/read-after-event',
  'models/two-models',
  'models/changed',
  'models/every-type',
  'abuse/repeating',
  'live/clients',
  'process/start',
  'e2e/readiness',
  'e2e/traces',
  'abuse/bytes',
  'live/resume',
  'console/console',
  'process/log',
  'faults/blame',
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
