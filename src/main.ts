/** npm start: the API, and the worker when the queue is embedded. */
import { run } from './run.ts'
import { startApi } from './start.ts'

await run(startApi)
