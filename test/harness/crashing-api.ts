/**
 * An API whose processes crash as soon as they have said that they listen; but the first two go on until a test kills them, and the third
 * one ends before it listens.
 */
import cluster from 'node:cluster'
import { setTimeout as sleep } from 'node:timers/promises'
import { joinMachine } from '../../src/processes/member.ts'
import { run } from '../../src/run.ts'

const machine = joinMachine()
if (machine) {
  if (cluster.worker!.id === 3) process.exit(70)
  machine.ready({ url: 'http://127.0.0.1:1', implementations: {} })
  await sleep(cluster.worker!.id <= 2 ? 600_000 : 50)
  process.exit(70)
}
await run('api', () => import('../../src/models/index.ts'))
