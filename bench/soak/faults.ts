/** The faults of the soak, one after the other, again and again. API 1 and worker 1 are never killed, so that their memory is seen over the whole run. */
import type { System } from './system.ts'

export interface Fault {
  name: string
  /** Resolves when what can be repaired from outside is repaired. */
  inject(system: System): Promise<void>
}

export const faults: readonly Fault[] = [
  { name: 'worker 2 killed', inject: async ({ workers }) => workers[1]!.kill() },
  { name: 'API 2 killed', inject: async ({ apis }) => apis[1]!.kill() },
  { name: 'Redis killed', inject: (system) => system.kill(system.redis) },
  { name: 'MariaDB killed', inject: (system) => system.kill(system.mariadb) },
  { name: 'worker 1 stopped for 15 s', inject: ({ workers }) => workers[0]!.freeze(15_000) },
  { name: 'MariaDB stopped for 10 s', inject: (system) => system.freeze(system.mariadb, 10_000) },
  { name: 'connections to Redis cut', inject: (system) => system.cutRedisConnections() },
  { name: 'connections to MariaDB cut', inject: (system) => system.cutDatabaseConnections() },
  { name: 'cache killed', inject: (system) => system.kill(system.cache) },
  { name: 'Redis stopped for 3 s', inject: (system) => system.freeze(system.redis, 3_000) },
  { name: 'API 1 stopped for 5 s', inject: ({ apis }) => apis[0]!.freeze(5_000) },
  {
    name: 'API 2 and worker 2 killed at once',
    inject: async ({ apis, workers }) => {
      apis[1]!.kill()
      workers[1]!.kill()
    },
  },
]

/** What followed a fault, until the next one. */
export interface Aftermath {
  name: string
  /** Seconds after the beginning of the run. */
  at: number
  /** The longest time without an acknowledged save. */
  pausedMs: number
  /** Saves that were sent again. */
  repeated: number
  deepest: number
  /** Seconds from the fault until the queue had less than a second's saves again; undefined: not before the next fault. */
  emptyAfter: number | undefined
}
