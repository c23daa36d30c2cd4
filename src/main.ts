/** npm start: the API, and the worker when the queue is embedded. */
import { run } from './run.ts'

await run('api', () => import('./models/index.ts'))
