import { createRequire } from 'node:module'
import { defineConfig } from 'vitest/config'

// Real servers, real processes: files run two at a time, each in a process of its own, on one shared Redis and MariaDB.
export default defineConfig({
  // As Node resolves it: Vite would take graphql's `module`, and then there are two of it.
  resolve: { alias: [{ find: /^graphql$/, replacement: createRequire(import.meta.url).resolve('graphql') }] },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/harness/servers.ts'],
    environment: 'node',
    pool: 'forks',
    maxWorkers: 2,
    execArgv: ['--disable-warning=ExperimentalWarning'],
    testTimeout: 30_000,
    // The first one on a machine makes a MariaDB data directory.
    hookTimeout: 90_000,
    // A file that leaves something behind that cannot be closed in this time fails the run.
    teardownTimeout: 10_000,
    reporters: ['default'],
  },
})
