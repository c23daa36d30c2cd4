/** How the soak finds what a subscriber missed, and how memory grows. */
import { expect, test } from 'vitest'
import { slopeOf } from '../../bench/soak/figures.ts'
import { Received } from '../../bench/soak/received.ts'

const rooms = 7
const total = 10_000

test('Received counts what one subscriber of a room missed, and what it received again', () => {
  const received = new Received(rooms, 3)
  for (let n = 3; n < total; n += rooms) if (n % 1_000 !== 0) received.add(n)
  const missing = Array.from({ length: total }, (_, n) => n).filter((n) => n % rooms === 3 && n % 1_000 === 0)
  expect(missing.length).toBeGreaterThan(0)
  expect(received.missed(total, [])).toBe(missing.length)
  received.add(3)
  expect(received).toMatchObject({ events: Math.ceil((total - 3) / rooms) - missing.length + 1, repeated: 1 })
  // What was never published is no gap; what is of another room, or was received all the same, changes nothing.
  expect(received.missed(total, [missing[0]!, 4, 10])).toBe(missing.length - 1)
  for (const n of missing) received.add(n)
  expect(received.missed(total, [])).toBe(0)
  expect(() => received.add(4)).toThrow('message 4 is not of room 3 of 7')
})

test('Received without a room counts what a subscriber of all messages missed, in whichever order they came', () => {
  const received = new Received(rooms)
  for (let n = total - 1; n >= 0; n--) if (n !== 8_191 && n !== 9_999) received.add(n)
  expect(received.missed(total, [])).toBe(2)
  expect(received.missed(total, [9_999])).toBe(1)
})

test('slopeOf is that of the line through points that lie on one, and of the best line through others', () => {
  expect(slopeOf([0, 1, 2, 3].map((x) => [x, 5 - 2 * x] as const))).toBeCloseTo(-2)
  expect(
    slopeOf([
      [0, 0],
      [1, 2],
      [2, 1],
    ]),
  ).toBeCloseTo(0.5)
})
