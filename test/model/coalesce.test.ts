import { expect, test } from 'vitest'
import { coalesce } from '../../src/model/coalesce.ts'

test('coalesce loads the keys of one tick in one call, each key once, and those of the next tick in another', async () => {
  const calls: string[][] = []
  const get = coalesce(async (keys: string[]) => {
    calls.push(keys)
    return keys.map((key) => key.toUpperCase())
  })
  expect(await Promise.all([get('a'), get('b'), get('a')])).toEqual(['A', 'B', 'A'])
  expect(await get('a')).toBe('A')
  expect(calls).toEqual([['a', 'b'], ['a']])
})

test('coalesce rejects only the callers of the call that failed', async () => {
  const get = coalesce(async (keys: number[]) => {
    if (keys.includes(3)) throw new Error('no')
    return keys
  }, 2)
  const results = await Promise.allSettled([1, 2, 3, 4, 5].map(get))
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'rejected', 'fulfilled'])
})

test('coalesce makes the calls of one tick one after the other', async () => {
  let running = 0
  let most = 0
  const get = coalesce(async (keys: number[]) => {
    running += 1
    most = Math.max(most, running)
    await new Promise(setImmediate)
    running -= 1
    return keys
  }, 1)
  expect(await Promise.all([1, 2, 3].map(get))).toEqual([1, 2, 3])
  expect(most).toBe(1)
})
