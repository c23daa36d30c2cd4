/** The process of a RemoteCrowd: calls the methods of a LocalCrowd by name. It ends with the process that started it. */
import { type Crowd, type CrowdOptions, LocalCrowd } from './crowd.ts'
import type { Answer, Call } from './remote-crowd.ts'

let crowd: Crowd | undefined

process.on('message', async ({ id, method, args }: Call) => {
  let answer: Answer
  try {
    answer = { id, value: await call(method, args) }
  } catch (error) {
    answer = { id, error: (error as Error).message }
  }
  process.send!(answer)
})
process.on('disconnect', () => process.exit(0))

async function call(method: Call['method'], args: Call['args']): Promise<unknown> {
  if (method !== 'open') return await (crowd![method] as (...args: unknown[]) => unknown)(...args)
  crowd = await LocalCrowd.open(args[0] as CrowdOptions)
}
