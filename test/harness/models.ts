/** Models of the tests, with their tables made by hand: one that follows every rule of the contract, one that few may see, one with every type. */
import type { PothosPrismaDatamodel, PrismaModelTypes } from '@pothos/plugin-prisma'
import type { FieldsOf } from '../../src/graphql/builder.ts'
import { listModels, modelsOf } from '../../src/model/define.ts'
import type { Model, Row } from '../../src/model/model.ts'
import type { ColumnType, Table, TableColumn } from '../../src/model/table.ts'

type Native = readonly [name: string, ...args: string[]]

export function column(
  name: string,
  type: ColumnType,
  rest: Partial<Omit<TableColumn, 'native'>> & { native?: Native } = {},
): TableColumn {
  const { native, ...others } = rest
  return {
    name,
    dbName: name,
    type,
    nullable: false,
    list: false,
    values: undefined,
    enumName: undefined,
    default: undefined,
    generated: undefined,
    description: undefined,
    ...others,
    native: native && [native[0], native.slice(1)],
  }
}

export function table(name: string, columns: readonly TableColumn[], indexes: readonly string[][] = []): Table {
  return {
    name,
    dbName: name,
    description: undefined,
    columns: [
      column('id', 'String', { native: ['Char', '36'] }),
      ...columns,
      column('createdAt', 'DateTime', { native: ['DateTime', '3'] }),
      column('savedAt', 'DateTime', { native: ['DateTime', '3'] }),
    ],
    primaryKey: ['id'],
    indexes: indexes.map((index) => [...index, 'createdAt', 'id']),
    unique: [],
    references: [],
  }
}

const moods = ['HAPPY', 'SAD', 'Mixed_1'].map((name) => ({ name, dbName: name.toLowerCase() }))
const mood = { enumName: 'Mood', values: moods }

const everyType: [string, ColumnType, Parameters<typeof column>[2]][] = [
  ['text', 'String', { native: ['VarChar', '10'] }],
  ['whole', 'Int', {}],
  ['big', 'BigInt', {}],
  ['ratio', 'Float', {}],
  ['price', 'Decimal', { native: ['Decimal', '65', '30'] }],
  ['flag', 'Boolean', {}],
  ['at', 'DateTime', { native: ['DateTime', '3'] }],
  ['data', 'Json', {}],
  ['bytes', 'Bytes', { native: ['VarBinary', '8'] }],
  ['mood', 'Enum', mood],
]
const defaults: Record<string, string | number | boolean> = {
  text: 'a text',
  whole: 7,
  big: '9007199254740993',
  ratio: 0.5,
  price: '12.50',
  flag: true,
  at: '2026-01-31T12:00:00.000Z',
  data: '{"a":[1,null]}',
  bytes: 'AP8=',
  mood: 'SAD',
}
const capital = (name: string) => name[0]!.toUpperCase() + name.slice(1)

export const tables = {
  Content: table('Content', [column('content', 'String', { native: ['MediumText'] })]),
  Comment: table(
    'Comment',
    [
      column('postId', 'String', { native: ['Char', '36'] }),
      column('author', 'String', { native: ['VarChar', '100'] }),
      column('body', 'String', { native: ['Text'] }),
      column('rating', 'Int', { nullable: true }),
      column('mood', 'Enum', { ...mood, default: 'HAPPY' }),
    ],
    [['postId'], ['author'], ['author', 'postId']],
  ),
  Memo: table(
    'Memo',
    [
      column('tenantId', 'String', { native: ['VarChar', '20'] }),
      column('topic', 'Int'),
      column('text', 'String', { native: ['VarChar', '100'] }),
    ],
    [['tenantId'], ['topic'], ['tenantId', 'topic']],
  ),
  /** Of every type a required column, a nullable one, and one of each with a default. */
  Every: table(
    'Every',
    everyType.flatMap(([name, type, rest]) => [
      column(name, type, rest),
      column(`maybe${capital(name)}`, type, { ...rest, nullable: true }),
      column(`usual${capital(name)}`, type, { ...rest, default: defaults[name] }),
      column(`seldom${capital(name)}`, type, { ...rest, nullable: true, default: defaults[name] }),
    ]),
  ),
}

// biome-ignore lint/suspicious/noExplicitAny: the rows of tables that no client was generated for.
type AnyRows = Record<keyof typeof tables, Row & Record<string, any>>

type AnyTypes = { [N in keyof AnyRows]: PrismaModelTypes & { Name: N; Shape: AnyRows[N] } }
type AnyFields = { [N in keyof AnyRows]: FieldsOf<AnyTypes, unknown, N> }

export const defineModel = modelsOf<AnyRows, AnyFields>(tables)

export const Content = defineModel('Content', {
  names: { one: 'content', many: 'contents', save: 'save', saveMany: 'saveMany', saved: 'saved', flat: true },
})

export const Comment = defineModel('Comment', {
  description: 'What a reader says of a post.',
  columns: { body: { maxBytes: 1_000 }, rating: { min: 1, max: 5 }, author: { fromToken: 'sub' } },
  by: [['postId'], ['author'], ['author', 'postId']],
  check: ({ body }) => (body.includes('forbidden') ? 'body has a forbidden word' : undefined),
})

export const Memo = defineModel('Memo', {
  visibleTo: { tenantId: 'tenant' },
  by: [['topic'], ['tenantId']],
  fields: (t) => ({
    viewer: t.string({
      description: 'Depends on the client.',
      resolve: (_memo, _args, { grant }) => grant.subject ?? 'nobody',
    }),
    letters: t.int({
      description: 'Depends on the row only.',
      extensions: { shared: true },
      resolve: (memo) => {
        resolved.letters += 1
        return memo.text.length
      },
    }),
  }),
})

/** How often fields of a model's own were resolved. */
export const resolved = { letters: 0 }

export const Every = defineModel('Every', {
  names: { one: 'every', many: 'everything', saveMany: 'saveEverything' },
})

export const models = listModels([Content, Comment, Memo, Every] as Model[])

/** What prisma-pothos-types would generate for the tables. */
export function datamodelOf(given: Readonly<Record<string, Table>> = tables): PothosPrismaDatamodel {
  const modelOf = ({ columns }: Table) => ({
    fields: columns.map(({ name, type, nullable, enumName }) => ({
      type: enumName ?? type,
      kind: enumName === undefined ? 'scalar' : 'enum',
      name,
      isRequired: !nullable,
      isList: false,
      hasDefaultValue: false,
      isUnique: false,
      isId: name === 'id',
      isUpdatedAt: false,
    })),
    primaryKey: null,
    uniqueIndexes: [],
  })
  const byName = Object.fromEntries(Object.values(given).map((one) => [one.name, modelOf(one)]))
  return { datamodel: { models: byName } } as unknown as PothosPrismaDatamodel
}
