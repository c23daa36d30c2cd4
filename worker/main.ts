/** npm run worker: a worker of a queue on Redis; run as many as you like. */
import { run } from '../src/run.ts'

await run('worker')
