/**
 * GraphQL over HTTP: the audits of the `graphql-http` package, by the fast path and by Yoga alone. Every MUST audit passes. An audit of
 * SHOULD or MAY that fails is listed here with its reason, and every listed one must fail.
 */
import { serverAudits } from 'graphql-http'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { FastPath } from '../../src/graphql/fast-path.ts'
import { serveTwoWays, type TwoWays } from '../harness/two-ways.ts'

/** The audits of SHOULD and MAY that fail, by id, and why they should. There is none. */
const expectedFailures: Record<string, string> = {}

let ways: TwoWays
beforeAll(async () => {
  ways = await serveTwoWays()
})
afterAll(() => ways?.close())

describe.each(['plain', 'fast'] as const)('GraphQL over HTTP, server %s', (way) => {
  // A document is compiled the second time, so that only the third run takes the fast path wherever it can.
  test.each([1, 2, 3])('passes every audit except the listed ones, time %i', async () => {
    const spies = (['handle', 'sendCached'] as const).map((name) => vi.spyOn(FastPath.prototype, name))
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
    expect(failed).toEqual(Object.fromEntries(Object.keys(expectedFailures).map((id) => [id, expect.any(String)])))
  })
})
