import { readFileSync } from 'node:fs'
import {
  buildSchema,
  type GraphQLSchema,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isObjectType,
  isSpecifiedScalarType,
  printSchema,
} from 'graphql'
import { describe, expect, test } from 'vitest'
import { makeSchema } from '../../src/graphql/schema.ts'
import { listModels } from '../../src/model/define.ts'
import type { Model } from '../../src/model/model.ts'
import { models as listed, prisma } from '../../src/models/index.ts'
import { Content, models as contents, given } from '../harness/contents.ts'
import { datamodelOf, models } from '../harness/models.ts'

const schema = makeSchema(contents, given.prisma)
const withModels = makeSchema(models, { datamodel: datamodelOf() })
const schemas: [string, GraphQLSchema][] = [
  ['Content', schema],
  ['several models', withModels],
]
const typesOf = (of: GraphQLSchema) =>
  Object.values(of.getTypeMap()).filter((type) => !type.name.startsWith('__') && !isSpecifiedScalarType(type))

test('schema.graphql equals the schema of the models in src/models/index.ts (npm run docs writes it)', () => {
  expect(readFileSync('schema.graphql', 'utf8')).toBe(`${printSchema(makeSchema(listModels(listed), prisma))}\n`)
})

test.each(['content', 'id', 'savedAt'])('makeSchema refuses a field of a model that replaces the column %s', (name) => {
  const replaced: Model = {
    ...Content,
    fields: (t: { boolean(options: object): unknown }) => ({ [name]: t.boolean({ resolve: () => true }) }),
  }
  expect(() => makeSchema(new Map([['Content', replaced]]), given.prisma)).toThrow(
    `The model Content: fields has ${name}, which is a column; give the field another name`,
  )
})

describe.each(schemas)('The schema of %s', (_name, of) => {
  test('has a description of every type, field, argument, input field and enum value (FE7)', () => {
    const bare: string[] = []
    const look = (name: string, { description }: { description?: string | null | undefined }) => {
      if (!description?.trim()) bare.push(name)
    }
    for (const type of typesOf(of)) {
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

  test.each([
    ['DateTime', /^https:\/\/scalars\.graphql\.org\//],
    ['JSON', /ecma-404/],
    ['Bytes', /rfc4648/],
  ])('names the specification of %s (FE7)', (name, url) => {
    expect(of.getType(name)).toMatchObject({ specifiedByURL: expect.stringMatching(url) })
  })

  test('names edge and connection types after their node type (FE7)', () => {
    const named = typesOf(of)
      .filter(isObjectType)
      .filter(({ name }) => /(Connection|Edge)$/.test(name))
    expect(named.length).toBeGreaterThan(2)
    for (const type of named) {
      const { edges, node } = type.getFields()
      if (node) expect(type.name).toBe(`${String(node.type).replace(/!$/, '')}Edge`)
      else expect(String(edges?.type)).toBe(`[${type.name.replace(/Connection$/, 'Edge')}!]!`)
    }
  })

  test('is printed as a schema that a tool can read again', () => {
    const printed = printSchema(of)
    expect(printSchema(buildSchema(printed))).toBe(printed)
  })
})

test('An input has a column as required, nullable or with its default, as the table has it', () => {
  const input = withModels.getType('EveryInput')
  if (!isInputObjectType(input)) throw new Error('EveryInput is no input type')
  const fields = Object.values(input.getFields())
  const printed = (prefix: string) =>
    fields.filter(({ name }) => name.startsWith(prefix)).map(({ type, defaultValue }) => [String(type), defaultValue])
  expect(String(input.getFields().big?.type)).toBe('BigInt!')
  expect(printed('maybe').every(([type, value]) => !String(type).endsWith('!') && value === undefined)).toBe(true)
  expect(
    Object.fromEntries(fields.map(({ name, type, defaultValue }) => [name, [String(type), defaultValue]])),
  ).toMatchObject({
    usualBig: ['BigInt!', '9007199254740993'],
    seldomBig: ['BigInt', '9007199254740993'],
    usualPrice: ['Decimal!', '12.5'],
    usualAt: ['DateTime!', '2026-01-31T12:00:00.000Z'],
    usualBytes: ['Bytes!', 'AP8='],
    usualMood: ['Mood!', 'SAD'],
    // GraphQL has no literal for every JSON default: the field is optional, and the default is not printed.
    usualData: ['JSON', undefined],
  })
})
