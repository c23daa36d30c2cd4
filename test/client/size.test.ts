/** What a page loads for the client: minified and compressed, as its own build makes it. */
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { bundle } from './bundle.ts'

const compressed = (code: string) => gzipSync(code, { level: 9 }).length

test('the client with every storage has at most 7.2 kB, and imports nothing', async () => {
  const code = await bundle('client/index.ts')
  expect(code).not.toMatch(/\bimport\b/)
  const bytes = compressed(code)
  console.log(`spillway-client: ${code.length} bytes minified, ${bytes} compressed`)
  expect(bytes).toBeLessThanOrEqual(7_200)
})

test('the hooks have at most 700 bytes, and import nothing but React', async () => {
  const code = await bundle('client/react.ts', ['react'])
  expect([...code.matchAll(/from\s*["'`]([^"'`]+)/g)].map(([, name]) => name)).toEqual(['react'])
  expect(compressed(code)).toBeLessThanOrEqual(700)
})
