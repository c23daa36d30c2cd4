import { expect, test } from 'vitest'
import { SingleFlight } from '../../src/model/single-flight.ts'

test('SingleFlight runs the work of one key once for all callers that come while it runs', async () => {
  const flight = new SingleFlight<number>()
  let runs = 0
  const work = async () => {
    await new Promise(setImmediate)
    runs += 1
    return runs
  }
  const first = [flight.run('a', work), flight.run('a', work)]
  expect(await flight.run('b', async () => 0)).toBe(0)
  expect(await Promise.all(first)).toEqual([1, 1])
  expect(await flight.run('a', work)).toBe(2)
})

test('SingleFlight gives an error to all callers of the run, and caches none', async () => {
  const flight = new SingleFlight<number>()
  const fail = async (): Promise<number> => {
    throw new Error('no')
  }
  const results = await Promise.allSettled([flight.run('a', fail), flight.run('a', fail)])
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(await flight.run('a', async () => 1)).toBe(1)
})
