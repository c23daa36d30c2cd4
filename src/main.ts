/** npm start: the API, and the worker when the queue is embedded. */
import { programUrl } from './bundle.ts'
import type * as Program from './program.ts'

const { run, loadModels }: typeof Program = await import(programUrl({ ...process.env }))
await run('api', loadModels)
