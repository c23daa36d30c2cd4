import { readFileSync } from 'node:fs'
import { printSchema } from 'graphql'
import { expect, it } from 'vitest'
import { schema } from '../../src/server/schema.ts'

it('stands in schema.graphql as it is (npm run docs writes it)', () => {
  expect(readFileSync('schema.graphql', 'utf8')).toBe(`${printSchema(schema)}\n`)
})
