/**
 * GraphQL over HTTP: the audits of the `graphql-http` package, by the fast path and by Yoga alone. What is a MUST holds; what else does not
 * is listed here with the reason, and one that is listed must fail.
 */
import { serverAudits } from 'graphql-http'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { FastPath } from '../../src/graphql/fast-path.ts'
import { serveTwoWays, type TwoWays } from '../harness/two-ways.ts'

/** Of SHOULD and MAY: the audits that fail, by id, and why that is meant. There is none. */
const meant: Record<string, string> = {}

let ways: TwoWays
beforeAll(async () => {
  ways = await serveTwoWays()
})
afterAll(() => ways?.close())

describe.each(['plain', 'fast'] as const)('%s', (way) => {
  // A document is compiled when it comes again: only the third time is all that can be the fast path's.
  it.each([1, 2, 3])('passes every audit but those that are listed, time %i', async () => {
    const spies = (['handle', 'handleKept'] as const).map((name) => vi.spyOn(FastPath.prototype, name))
    const failed: Record<string, string> = {}
    const audits = serverAudits({ url: `${ways[way]}/graphql` })
    for (const { id, name, fn } of audits) {
      const result = await fn()
      if (result.status !== 'ok') failed[id] = `${name}: ${result.reason}`
    }
    expect(audits.length).toBeGreaterThan(50)
    const answered = await Promise.all(spies.flatMap(({ mock }) => mock.results.map(({ value }) => value)))
    for (const spy of spies) spy.mockRestore()
    expect(answered.includes(true)).toBe(way === 'fast')
    expect(Object.values(failed).filter((text) => text.startsWith('MUST '))).toEqual([])
    expect(failed).toEqual(Object.fromEntries(Object.keys(meant).map((id) => [id, expect.any(String)])))
  })
})
