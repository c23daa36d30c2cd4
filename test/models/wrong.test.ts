/** A definition that is wrong stops the start with one error: which file, which column, and what to do. */
import { type GraphQLInterfaceType, type GraphQLObjectType, getNamedType } from 'graphql'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeSchema } from '../../src/graphql/schema.ts'
import { limitColumns, listModels, modelsOf } from '../../src/model/define.ts'
import type { Definition } from '../../src/model/definition.ts'
import type { Row } from '../../src/model/model.ts'
import { reservedFields, reservedNames, reservedTypes } from '../../src/model/names.ts'
import type { Table, TableColumn } from '../../src/model/table.ts'
import { setUps } from '../harness/boot.ts'
import { models as contents, given } from '../harness/contents.ts'
import { column, datamodelOf, table } from '../harness/models.ts'
import { spawnSpillway } from '../harness/process.ts'
import { addToIndex, copyTree, type Tree } from '../harness/tree.ts'
import { bootTree } from './every.ts'

// biome-ignore lint/suspicious/noExplicitAny: definitions that types would refuse.
type Any = any

/** `defineModel` for one table, which is Comment unless it has another name. */
function define(definition: Definition<Any> = {}, given: Table = comment()) {
  return modelsOf<Record<string, Row>, Any>({ [given.name]: given })(given.name, definition as Any)
}

const body = column('body', 'String', { native: ['Text'] })
const postId = column('postId', 'String', { native: ['Char', '36'] })
const comment = (...more: TableColumn[]) => table('Comment', [postId, body, ...more], [[], ['postId']])
const without = (name: string) => {
  const whole = comment()
  return { ...whole, columns: whole.columns.filter((one) => one.name !== name) }
}
const instead = (name: string, change: Partial<TableColumn>) => {
  const whole = comment()
  return { ...whole, columns: whole.columns.map((one) => (one.name === name ? { ...one, ...change } : one)) }
}

type Wrong = readonly [title: string, make: () => unknown, message: RegExp]
const file = /^The model Comment \(test\/models\/wrong\.test\.ts\): /

const wrong: Wrong[] = [
  [
    'a misspelt option, such as `visibleto`, which would show every row',
    () => define({ visibleto: { postId: 'tenant' } } as Any),
    /the option visibleto is unknown; expected one of description, columns, by, visibleTo, check, names, fields/,
  ],
  [
    'a misspelt name',
    () => define({ names: { mny: 'remarks' } } as Any),
    /names has mny; expected one of one, many, save, saveMany, saved, savePath, listPath/,
  ],
  [
    'a least time without a zone',
    () => define({ columns: { at: { min: '2020' } } }, comment(column('at', 'DateTime'))),
    /column at has the rule min: 2020, which must be a time with its offset, such as "2026-01-31T12:00:00.000Z" \(RFC 3339\)$/,
  ],
  [
    '`visibleTo` of a type that is no claim',
    () => define({ visibleTo: { isOpen: 'open' } }, table('Comment', [column('isOpen', 'Boolean')], [['isOpen']])),
    /column isOpen is in visibleTo and has the type Boolean; expected one of String, Int/,
  ],
  [
    '`visibleTo` and `fromToken` with two claims',
    () => define({ columns: { postId: { fromToken: 'sub' } }, visibleTo: { postId: 'tenant' } }),
    /column postId has fromToken: 'sub' and visibleTo: 'tenant'; remove fromToken/,
  ],
  [
    'a name that GraphQL lacks',
    () => define({ names: { many: 'all comments' } }),
    /names has many: "all comments"; expected letters, digits and _/,
  ],
  [
    'a path without a slash',
    () => define({ names: { listPath: 'comments' } }),
    /names has listPath: "comments"; expected a \/ and then letters/,
  ],
  [
    'a column that the schema lacks',
    () => define({ columns: { colour: {} } }),
    /there is no column colour; it has postId, body; add colour to prisma\/schema.prisma, then npm run migration -- NAME/,
  ],
  ['a column of Spillway', () => define({ columns: { savedAt: {} } }), /savedAt is set by Spillway; remove it/],
  ['`by` with a column that the schema lacks', () => define({ by: [['colour']] }), /there is no column colour/],
  [
    '`by` without an index',
    () => define({ by: [['postId', 'body']] }, table('Comment', [postId, column('body', 'Int')])),
    /body and postId, and no index is fit .*@@index\(\[body, postId, createdAt, id\]\)/,
  ],
  [
    '`by` of a type that cannot be searched',
    () => define({ by: [['ratio']] }, comment(column('ratio', 'Float'))),
    /column ratio is in by or visibleTo and has the type Float; expected String/,
  ],
  [
    '`visibleTo` without an index',
    () => define({ visibleTo: { postId: 'tenant' } }, table('Comment', [postId])),
    /postId, and no index is fit/,
  ],
  [
    '`visibleTo` with two columns',
    () => define({ visibleTo: { postId: 'a', body: 'b' } }),
    /visibleTo names 2 columns; name one/,
  ],
  ['no id', () => define({}, without('id')), /lacks the column id; add "id String @id @db.Char\(36\)"/],
  [
    'no createdAt',
    () => define({}, without('createdAt')),
    /lacks the column createdAt; add "createdAt DateTime @db.DateTime\(3\)"/,
  ],
  ['no savedAt', () => define({}, without('savedAt')), /lacks the column savedAt/],
  [
    'an id that is a number',
    () => define({}, instead('id', { type: 'Int' })),
    /column id must be declared as "id String @id/,
  ],
  [
    'an id that is too short',
    () => define({}, instead('id', { native: ['Char', ['35']] })),
    /column id must be declared/,
  ],
  [
    'createdAt with seconds',
    () => define({}, instead('createdAt', { native: ['DateTime', ['0']] })),
    /column createdAt must be declared/,
  ],
  [
    'createdAt that is nullable',
    () => define({}, instead('createdAt', { nullable: true })),
    /column createdAt must be declared/,
  ],
  [
    'savedAt that Prisma sets',
    () => define({}, instead('savedAt', { generated: 'updatedAt' })),
    /column savedAt must be declared/,
  ],
  [
    'savedAt under another name',
    () => define({}, instead('savedAt', { dbName: 'saved_at' })),
    /column savedAt must be declared/,
  ],
  ['another primary key', () => define({}, { ...comment(), primaryKey: ['postId', 'id'] }), /primary key must be id/],
  [
    'a unique index',
    () => define({}, { ...comment(), unique: [['postId']] }),
    /postId must not be unique: .*replace it by @@index/,
  ],
  [
    'a list',
    () => define({}, comment(column('tags', 'String', { list: true }))),
    /column tags has the type String\[\]; expected one of String, Int/,
  ],
  [
    'a type that Prisma does not support',
    () => define({}, comment(column('place', 'Unsupported' as Any))),
    /column place has the type Unsupported/,
  ],
  [
    '@updatedAt',
    () => define({}, comment(column('seen', 'DateTime', { generated: 'updatedAt' }))),
    /column seen gets its value from updatedAt/,
  ],
  [
    'autoincrement()',
    () => define({}, comment(column('number', 'Int', { generated: 'autoincrement' }))),
    /column number gets its value from autoincrement/,
  ],
  [
    '@db.Float',
    () => define({}, comment(column('ratio', 'Float', { native: ['Float'] }))),
    /column ratio has the type @db.Float, which rounds; use @db.Double/,
  ],
  [
    '@db.Timestamp',
    () => define({}, comment(column('seen', 'DateTime', { native: ['Timestamp', '3'] }))),
    /column seen has the type @db.Timestamp; expected one of @db.DateTime/,
  ],
  [
    '@db.DateTime without milliseconds',
    () => define({}, comment(column('seen', 'DateTime', { native: ['DateTime', '0'] }))),
    /column seen .*rounds; use @db.DateTime\(3\)/,
  ],
  [
    'a rule of another type',
    () => define({ columns: { body: { min: 1 } } }),
    /column body has the type String, which the rule min is not for; its rules are maxBytes, maxLength, pattern, fromToken, description/,
  ],
  [
    'a rule that there is not',
    () => define({ columns: { body: { length: 1 } } } as Any),
    /column body has the rule length; expected one of maxBytes/,
  ],
  [
    'maxBytes of 0',
    () => define({ columns: { body: { maxBytes: 0 } } }),
    /column body has the rule maxBytes: 0; expected a whole number from 1/,
  ],
  [
    'a pattern with the flag g',
    () => define({ columns: { body: { pattern: /a/g } } }),
    /column body has a pattern with the flag g/,
  ],
  [
    'min beyond the type',
    () => define({ columns: { rating: { max: 200 } } }, comment(column('rating', 'Int', { native: ['TinyInt'] }))),
    /column rating has the rule max: 200, which must be at least -128 and at most 127/,
  ],
  [
    'min above max',
    () => define({ columns: { rating: { min: 5, max: 1 } } }, comment(column('rating', 'Int'))),
    /column rating has the rules min: 5 and max: 1/,
  ],
  [
    'a default that breaks a rule',
    () => define({ columns: { rating: { min: 1 } } }, comment(column('rating', 'Int', { default: 0 }))),
    /column rating has the default 0, which must be at least 1/,
  ],
  [
    'a column named like an argument of lists',
    () => define({ by: [['after']] }, table('Comment', [column('after', 'Int')], [['after']])),
    /column after has a name that Spillway uses itself; rename it/,
  ],
  [
    'a column named like a field of REST',
    () => define({}, comment(column('created_at', 'Int'))),
    /column created_at has a name that Spillway uses itself/,
  ],
  [
    'a column named like what each object has',
    () => define({}, comment(column('constructor', 'Int'))),
    /column constructor has a name/,
  ],
  [
    'no object',
    () => modelsOf<Record<string, Row>, Any>({ Comment: comment() })('Comment', undefined as Any),
    /must be an object/,
  ],
  ['`visibleTo` without a column', () => define({ visibleTo: {} }), /visibleTo names 0 columns; name one/],
  [
    '`visibleTo` without a claim',
    () => define({ visibleTo: { postId: undefined } } as Any),
    /visibleTo.postId must be the name of a claim, such as 'sub'; got undefined/,
  ],
  [
    '`visibleTo` with a claim of no characters',
    () => define({ visibleTo: { postId: '' } }),
    /visibleTo.postId must be the name of a claim/,
  ],
  [
    '`fromToken` without a claim',
    () => define({ columns: { body: { fromToken: '' } } }),
    /fromToken of the column body must be the name of a claim/,
  ],
  [
    'rules that are no object',
    () => define({ columns: { body: null } } as Any),
    /the rules of the column body must be an object; got null/,
  ],
  [
    'a pattern that is a text',
    () => define({ columns: { body: { pattern: '^a$' } } } as Any),
    /pattern of the column body must be a regular expression; got "\^a\$"/,
  ],
  ['`by` that is no list of lists', () => define({ by: ['postId'] } as Any), /by must be lists of columns/],
  ['`by` with a set of no columns', () => define({ by: [[]] }), /by must be lists of columns/],
  [
    '`by` with a column twice',
    () => define({ by: [['postId', 'postId']] }),
    /names a column twice in \[postId, postId\]/,
  ],
  ['`by` with a set twice', () => define({ by: [['postId'], ['postId']] }), /has the columns \[postId\] twice/],
  [
    '`check` that returns a promise',
    () => define({ check: async () => undefined } as Any),
    /check must be a function that is not async/,
  ],
  ['`fields` that are no function', () => define({ fields: {} }), /fields must be a function; got an object/],
  [
    'an enum with a value that GraphQL reserves',
    () => define({}, comment(column('kind', 'Enum', { enumName: 'Kind', values: [{ name: 'null', dbName: 'null' }] }))),
    /column kind has an enum with the value null, which GraphQL reserves/,
  ],
]

describe('defineModel', () => {
  test.each(wrong)('refuses %s, and names file, column and cure', (_title, make, message) => {
    expect(make).toThrow(message)
    expect(make).toThrow(file)
  })

  test('refuses a model that the schema lacks, and lists those it has', () => {
    const defineModel = modelsOf<Record<string, Row>, Any>({ Comment: comment() })
    expect(() => defineModel('Remark', {} as Any)).toThrow(
      /The model Remark \(test\/models\/wrong\.test\.ts\) is not in prisma\/schema.prisma, which has Comment; add it there, then run npm run migration -- NAME, or npm run generate if its migration is written/,
    )
  })

  test('refuses a name that is too long', () => {
    expect(() => define({}, table('C'.repeat(41), [body]))).toThrow(/its name has 41 characters; at most 40/)
  })
})

test('defineModel makes the names that are not given of those that are', () => {
  const { names } = define({ names: { many: 'remarks' } })
  expect(names).toEqual({
    one: 'comment',
    many: 'remarks',
    save: 'saveComment',
    saveMany: 'saveRemarks',
    saved: 'commentSaved',
    savePath: '/remarks',
    listPath: '/remarks',
    flat: false,
  })
})

describe('limitColumns', () => {
  const long = column('long', 'String', { native: ['LongText'] })
  const maxBytesOf = (definition: Definition<Any>, given: TableColumn[], most: number) =>
    limitColumns(listModels([define(definition, table('Comment', given))]), most)
      .get('Comment')!
      .columns.map(({ maxBytes }) => maxBytes)

  test('sets the limit of columns that have no rule maxBytes, and of no others', () => {
    expect(maxBytesOf({ columns: { long: { maxBytes: 200_000 } } }, [long, body], 65_000)).toEqual([200_000, 65_000])
  })

  test('refuses a model whose row may be larger than a statement, and says what to lower', () => {
    const many = Array.from({ length: 5 }, (_, i) => ({ ...long, name: `long${i}` }))
    expect(() => maxBytesOf({}, many, 1_048_576)).toThrow(
      'The columns of the model Comment may have 5242880 bytes together, and a row may have at most 4194304; lower maxBytes of some of them, or CONTENT_MAX_BYTES',
    )
    expect(maxBytesOf({}, many.slice(1), 1_048_576)).toEqual([1_048_576, 1_048_576, 1_048_576, 1_048_576])
    const short = Array.from({ length: 100 }, (_, i) => column(`short${i}`, 'String', { native: ['VarChar', '100'] }))
    expect(maxBytesOf({}, short, 1_048_576)).toHaveLength(100)
  })
})

describe('listModels', () => {
  const named = (name: string, definition: Definition<Any> = {}) => define(definition, table(name, [body]))
  test.each([
    [
      'a name of a mutation',
      [named('Comment'), named('Remark', { names: { save: 'saveComment' } })],
      /the model Remark and the model Comment both claim the mutation saveComment; rename one/,
    ],
    [
      'a name of a list',
      [named('Comment'), named('Remark', { names: { many: 'comments' } })],
      /both claim the query comments/,
    ],
    [
      'a path',
      [named('Comment'), named('Remark', { names: { savePath: '/comments' } })],
      /both claim the path \/comments/,
    ],
    [
      'a GraphQL type',
      [named('Comment'), named('CommentInput')],
      /the model CommentInput and the model Comment both claim the GraphQL type CommentInput/,
    ],
    ['a type of Spillway', [named('Queue')], /the model Queue and Spillway both claim/],
    [
      'a path of Spillway',
      [named('Comment', { names: { listPath: '/metrics' } })],
      /the model Comment and Spillway both claim the path \/metrics/,
    ],
    ['its own list', [named('Sheep', { names: { many: 'sheep' } })], /both claim the query sheep/],
    [
      'the same model',
      [named('Comment'), named('Comment')],
      /^models\/index\.ts lists the model Comment twice; remove one/,
    ],
    [
      'a field of receipts',
      [named('Status')],
      /the model Status has the name status, which is a field of receipts or events; give it another/,
    ],
  ])('refuses models that claim %s twice', (_title, models, message) => {
    expect(() => listModels(models)).toThrow(message)
  })
})

test('listModels refuses a list without a model', () => {
  expect(() => listModels([])).toThrow('There is no model; list at least one in models/index.ts')
})

test('listModels reserves each type and root field of the GraphQL schema that is not of a model', () => {
  const schema = makeSchema(contents, given.prisma)
  const isContents = (name: string) => /^Content/.test(name)
  const types = Object.keys(schema.getTypeMap()).filter((name) => !name.startsWith('__') && !isContents(name))
  expect(types.filter((name) => !reservedTypes.includes(name))).toEqual([])
  const othersOf = (root: GraphQLObjectType | null | undefined) =>
    Object.values(root!.getFields())
      .filter(({ type }) => !isContents(getNamedType(type).name))
      .map(({ name }) => name)
      .sort()
  expect(Object.values(reservedNames).map((names) => names.toSorted())).toEqual(
    [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()].map(othersOf),
  )
  const receipt = Object.keys((schema.getType('Receipt') as GraphQLInterfaceType).getFields())
  expect(receipt.filter((name) => !reservedFields.includes(name))).toEqual([])
})

test.each(['Worker', 'Condition', 'History', 'Lookup', 'Pause', 'Edit', 'Save'])(
  'listModels accepts a model with the name %s, and makeSchema makes its types beside those of operators',
  (name) => {
    const own = table(name, [body])
    const models = listModels([define({}, own)])
    expect(Object.keys(makeSchema(models, { datamodel: datamodelOf({ own }) }).getTypeMap())).toContain(
      `${name}Receipt`,
    )
  },
)

describe('npm start', () => {
  let tree: Tree
  beforeAll(async () => {
    tree = await copyTree(`
model Remark {
  id        String   @id @db.Char(36)
  postId    String   @db.Char(36)
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)
}
`)
    await tree.write(
      'src/models/remark.ts',
      "import { defineModel } from './prisma.ts'\n\nexport const Remark = defineModel('Remark', { by: [['postId']] })\n",
    )
    await addToIndex(tree, 'Remark')
    await tree.generate()
  }, 120_000)
  afterAll(() => tree?.[Symbol.asyncDispose]())

  test.each(['api', 'worker'] as const)('of a wrong model ends with one message (%s)', async (role) => {
    const process = await spawnSpillway(role, {}, { ready: false, tree: tree.path, cwd: tree.path })
    expect(await process.exited).toBe(1)
    const lines = process.logs().trim().split('\n')
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(
      /The model Remark \(src\/models\/remark\.ts\): lists can be narrowed to postId, and no index is fit for that; add @@index\(\[postId, createdAt, id\]\) to it in prisma\/schema.prisma, and a migration \(npm run migration -- NAME\)/,
    )
  })

  test.each(setUps)('of a model without its migration says so, and saves rows of others (%s)', async (setUp) => {
    await tree.write(
      'src/models/remark.ts',
      "import { defineModel } from './prisma.ts'\n\nexport const Remark = defineModel('Remark', {})\n",
    )
    const system = await bootTree(tree, setUp)
    try {
      expect(system.api.logs()).toMatch(
        /the database accepts no rows of Remark until this is fixed: .*Remark.*; write its migration \(npm run migration -- NAME\)/,
      )
      const save =
        'mutation { saveRemark(input: { postId: "a" }) { status } save(content: "a", waitMs: 30000) { status } }'
      expect((await system.client.graphql(save)).data).toEqual({
        saveRemark: { status: 'QUEUED' },
        save: { status: 'SAVED' },
      })
    } finally {
      await system.stop()
    }
  })
})
