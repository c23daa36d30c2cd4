/** npm start: the API, and the worker when the queue is embedded. */
import { loadModels } from './project.ts'
import { run } from './run.ts'

await run('api', loadModels)
