import { describe, expect, test } from 'vitest'
import { claimOf } from '../../src/model/grant.ts'

const claim = (value: unknown) => claimOf({ claims: { tenant: value } }, 'tenant')

describe('claimOf', () => {
  test('returns a string as it is', () => {
    for (const text of ['acme', ' acme', 'Ünïcode 🦦', '0', 'null', 'a\u0000b']) expect(claim(text)).toBe(text)
  })

  test('returns a number as its decimal text', () => {
    expect([0, -0, 42, -7, 1.5, 2 ** 53 - 1, -(2 ** 53 - 1), 1e3].map(claim)).toEqual([
      '0',
      '0',
      '42',
      '-7',
      '1.5',
      '9007199254740991',
      '-9007199254740991',
      '1000',
    ])
  })

  test('returns undefined for a number that a double may have rounded, or that has no decimal text', () => {
    const { large, other } = JSON.parse('{"large":9007199254740993,"other":9007199254740992}')
    for (const value of [large, other, 1e21, 1e-7, Number.NaN, Number.POSITIVE_INFINITY])
      expect(claim(value), String(value)).toBeUndefined()
  })

  test('returns undefined for values of other types', () => {
    for (const value of [undefined, null, true, false, {}, { toString: () => 'acme' }, [], ['acme'], 1n])
      expect(claim(value)).toBeUndefined()
  })

  test('returns undefined for a text that a database may take for another one', () => {
    for (const text of ['', ' ', '\t\n', 'acme ', '\ud800', 'a\udc00'])
      expect(claim(text), JSON.stringify(text)).toBeUndefined()
  })

  test('takes a name as a plain key', () => {
    const claims = JSON.parse('{"https://example.com/tenant":"a","a.b":"c","a":{"b":"d"},"":"e"}')
    expect(claimOf({ claims }, 'https://example.com/tenant')).toBe('a')
    expect(claimOf({ claims }, 'a.b')).toBe('c')
    expect(claimOf({ claims }, '')).toBe('e')
    expect(claimOf({ claims }, 'a')).toBeUndefined()
    expect(claimOf({ claims }, 'A.B')).toBeUndefined()
  })

  test('ignores inherited properties, and reads a claim of such a name', () => {
    for (const name of ['constructor', '__proto__', 'toString', 'hasOwnProperty', 'valueOf'])
      expect(claimOf({ claims: {} }, name), name).toBeUndefined()
    const inherited = JSON.parse('{"__proto__":{"tenant":"acme"}}')
    expect(claimOf({ claims: inherited }, 'tenant')).toBeUndefined()
    expect(claimOf({ claims: inherited }, '__proto__')).toBeUndefined()
    expect(claimOf({ claims: Object.create({ tenant: 'acme' }) }, 'tenant')).toBeUndefined()
    expect(claimOf({ claims: JSON.parse('{"__proto__":"acme"}') }, '__proto__')).toBe('acme')
  })
})
