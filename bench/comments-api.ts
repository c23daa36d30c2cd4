/** The API of a Spillway with one model that can be narrowed; its table does not exist, and its events are published by the benchmark. */
import { run } from '../src/run.ts'
import { given } from '../test/harness/contents.ts'
import { Comment, datamodelOf } from '../test/harness/models.ts'

await run('api', async () => ({
  models: [Comment],
  prisma: { ...given.prisma, datamodel: datamodelOf() },
  url: import.meta.url,
}))
