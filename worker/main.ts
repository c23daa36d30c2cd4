/** npm run worker: one worker process of a queue on Redis. Several may run at once. */
import { run } from '../src/run.ts'

await run('worker', () => import('../src/models/index.ts'))
