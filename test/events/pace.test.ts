import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Pace } from '../../src/events/pace.ts'

test('Pace lets its number of callers pass in each turn, in their order, and all of them in the end', async () => {
  const pace = new Pace(10)
  const passed: number[] = []
  const caller = async (n: number) => {
    await pace.pass()
    passed.push(n)
    // It comes again, behind the others.
    if (n < 35) await caller(n + 1_000)
  }
  for (let n = 0; n < 35; n += 1) void caller(n)
  const order = [...Array(35).keys()]
  const all = [...order, ...order.map((n) => n + 1_000)]
  // Those that need not wait have passed when the microtasks before this one are done.
  await Promise.resolve()
  for (let most = 10; most <= 70; most += 10) {
    expect(passed).toEqual(all.slice(0, most))
    await turn()
  }
  // Whoever comes after a rest has a whole turn.
  await turn()
  passed.length = 0
  for (let n = 100; n < 120; n += 1) void caller(n)
  await Promise.resolve()
  expect(passed).toHaveLength(10)
  await turn()
  expect(passed).toEqual(Array.from({ length: 20 }, (_, n) => n + 100))
})
