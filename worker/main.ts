/** npm run worker: one worker process of a queue on Redis. Several may run at once. */
import { loadModels } from '../src/project.ts'
import { run } from '../src/run.ts'

await run('worker', loadModels)
