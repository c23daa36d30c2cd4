/** npm run worker: one worker process of a queue on Redis. Several may run at once. */
import { programUrl } from '../src/bundle.ts'
import type * as Program from '../src/program.ts'

const { run, loadModels }: typeof Program = await import(programUrl({ ...process.env }))
await run('worker', loadModels)
