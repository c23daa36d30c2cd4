import { readFileSync } from 'node:fs'
import {
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isObjectType,
  isSpecifiedScalarType,
  printSchema,
} from 'graphql'
import { expect, test } from 'vitest'
import { schema } from '../../src/graphql/schema.ts'

const types = Object.values(schema.getTypeMap()).filter(
  (type) => !type.name.startsWith('__') && !isSpecifiedScalarType(type),
)

test('schema.graphql equals the schema of the code (npm run docs writes it)', () => {
  expect(readFileSync('schema.graphql', 'utf8')).toBe(`${printSchema(schema)}\n`)
})

test('Every type, field, argument, input field and enum value of the schema has a description (FE7)', () => {
  const bare: string[] = []
  const look = (name: string, { description }: { description?: string | null | undefined }) => {
    if (!description?.trim()) bare.push(name)
  }
  for (const type of types) {
    look(type.name, type)
    if (isEnumType(type)) for (const value of type.getValues()) look(`${type.name}.${value.name}`, value)
    if (isInputObjectType(type)) {
      for (const field of Object.values(type.getFields())) look(`${type.name}.${field.name}`, field)
    }
    if (!isObjectType(type) && !isInterfaceType(type)) continue
    for (const field of Object.values(type.getFields())) {
      look(`${type.name}.${field.name}`, field)
      for (const arg of field.args) look(`${type.name}.${field.name}(${arg.name})`, arg)
    }
  }
  expect(bare).toEqual([])
})

test('JSON names its specification (FE7)', () => {
  expect(schema.getType('JSON')).toMatchObject({
    specifiedByURL: expect.stringMatching(/^https:\/\/ecma-international\.org\/.*ecma-404/),
  })
})

test('DateTime names its specification (FE7)', () => {
  expect(schema.getType('DateTime')).toMatchObject({
    specifiedByURL: expect.stringMatching(/^https:\/\/scalars\.graphql\.org\//),
  })
})

test('Edge and connection types are named after their node type (FE7)', () => {
  const named = types.filter(isObjectType).filter(({ name }) => /(Connection|Edge)$/.test(name))
  expect(named.length).toBeGreaterThan(2)
  for (const type of named) {
    const { edges, node } = type.getFields()
    if (node) expect(type.name).toBe(`${String(node.type).replace(/!$/, '')}Edge`)
    else expect(String(edges?.type)).toBe(`[${type.name.replace(/Connection$/, 'Edge')}!]!`)
  }
})
