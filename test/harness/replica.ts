/** A replica of a Redis, in sync with it. */
import { eventually } from './eventually.ts'
import { startRedis, type TestRedis } from './redis.ts'

/** For a Redis that has replicas: they begin to sync at once, and not after 5 s. */
export const primaryArgs = ['--repl-diskless-sync-delay', '0']

/** `port`: of the primary, or of a proxy before it. */
export async function startReplica({ port }: { port: number }): Promise<TestRedis> {
  const replica = await startRedis({ args: [...primaryArgs, '--replicaof', '127.0.0.1', String(port)] })
  const isInSync = async () => String(await replica.cli('INFO', 'replication')).includes('master_link_status:up')
  try {
    await eventually(isInSync)
  } catch (error) {
    await replica.cleanup()
    throw error
  }
  return replica
}
