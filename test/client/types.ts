/**
 * What a user's editor shows: the types of a client come from `typeof models` alone, without generated code and without a cast. `npm run check`
 * compiles this file, and nothing runs it: each expected error must be one.
 */
import { createClient } from '../../client/index.ts'
import { modelsOf } from '../../src/model/define.ts'
import type { models as ours } from '../../src/models/index.ts'

const column = {
  dbName: '',
  native: undefined,
  list: false,
  values: undefined,
  enumName: undefined,
  generated: undefined,
  description: undefined,
} as const
const required = { ...column, nullable: false, default: undefined } as const
const nullable = { ...required, nullable: true } as const
const usual = { ...required, default: 1 } as const
const table = {
  dbName: '',
  description: undefined,
  primaryKey: ['id'],
  indexes: [],
  unique: [],
  references: [],
} as const
const id = { ...required, name: 'id', type: 'String' } as const
const times = [
  { ...required, name: 'createdAt', type: 'DateTime' },
  { ...required, name: 'savedAt', type: 'DateTime' },
] as const

/** As prisma/generator writes them. */
const tables = {
  Comment: {
    ...table,
    name: 'Comment',
    columns: [
      id,
      { ...required, name: 'postId', type: 'String' },
      { ...required, name: 'author', type: 'String' },
      { ...nullable, name: 'rating', type: 'Int' },
      {
        ...required,
        name: 'mood',
        type: 'Enum',
        values: [
          { name: 'GOOD', dbName: '' },
          { name: 'BAD', dbName: '' },
        ],
      },
      { ...usual, name: 'flag', type: 'Boolean' },
      ...times,
    ],
  },
  Every: {
    ...table,
    name: 'Every',
    columns: [
      id,
      { ...required, name: 'tenantId', type: 'String' },
      { ...required, name: 'big', type: 'BigInt' },
      { ...required, name: 'price', type: 'Decimal' },
      { ...required, name: 'at', type: 'DateTime' },
      { ...nullable, name: 'bytes', type: 'Bytes' },
      { ...required, name: 'data', type: 'Json' },
      { ...required, name: 'ratio', type: 'Float' },
      ...times,
    ],
  },
} as const

interface Ours {
  id: string
  createdAt: Date
  savedAt: Date
}
interface Rows {
  Comment: Ours & { postId: string; author: string; rating: number | null; mood: 'GOOD' | 'BAD'; flag: boolean }
  Every: Ours & {
    tenantId: string
    big: bigint
    price: { toFixed(): string }
    at: Date
    bytes: Uint8Array | null
    data: unknown
    ratio: number
  }
}

const defineModel = modelsOf<Rows, Record<keyof Rows, unknown>, typeof tables>(tables)
const Comment = defineModel('Comment', {
  columns: { author: { fromToken: 'sub' }, rating: { min: 1, max: 5 } },
  by: [['postId'], ['author', 'postId']],
  check: ({ rating }) => (rating === 3 ? 'three is no rating' : undefined),
})
const Every = defineModel('Every', { visibleTo: { tenantId: 'tenant' } })
const models = [Comment, Every]

const client = createClient<typeof models>('http://127.0.0.1:8080')

/** Equal types, not only assignable ones. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const isSame = <_ extends true>() => {}

export async function saves() {
  const save = client.comment.save({ postId: 'x', mood: 'GOOD' }, { id: 'y' })
  client.comment.save({ postId: 'x', mood: 'BAD', rating: null, flag: true })
  // @ts-expect-error the token gives the author
  client.comment.save({ postId: 'x', mood: 'GOOD', author: 'me' })
  // @ts-expect-error there is no such mood
  client.comment.save({ postId: 'x', mood: 'FINE' })
  // @ts-expect-error the post is missing
  client.comment.save({ mood: 'GOOD' })
  // @ts-expect-error a rating is a number
  client.comment.save({ postId: 'x', mood: 'GOOD', rating: '1' })
  // @ts-expect-error Spillway sets it
  client.comment.save({ postId: 'x', mood: 'GOOD', savedAt: '' })
  client.every.save({ big: '1', price: '12.50', at: '2026-01-31T12:00:00Z', data: { list: [1, null] }, ratio: 0.5 })
  // @ts-expect-error a time is a text
  client.every.save({ big: '1', price: '12.50', at: new Date(), data: null, ratio: 0.5 })
  // @ts-expect-error the token gives the tenant
  client.every.save({ tenantId: 'x', big: '1', price: '1', at: '', data: null, ratio: 1 })
  const { status, duplicate } = await save
  isSame<Same<typeof status, 'QUEUED' | 'SAVED'>>()
  isSame<Same<typeof duplicate, boolean>>()
  const row = await save.saved()
  isSame<Same<typeof row.rating, number | null>>()
  isSame<Same<typeof row.mood, 'GOOD' | 'BAD'>>()
  isSame<Same<typeof row.savedAt, string>>()
  // @ts-expect-error a row does not change
  row.mood = 'BAD'
}

export async function follows() {
  client.comment.follow({ by: { postId: 'x' }, first: 20 })
  client.comment.follow({ by: { postId: 'x', author: 'y' } })
  // @ts-expect-error comments cannot be narrowed to an author alone
  client.comment.follow({ by: { author: 'y' } })
  // @ts-expect-error nothing narrows them
  client.every.follow({ by: { ratio: 1 } })
  for await (const { big, price, at, bytes, tenantId } of client.every.follow()) {
    isSame<Same<typeof big, string>>()
    isSame<Same<typeof price, string>>()
    isSame<Same<typeof at, string>>()
    isSame<Same<typeof bytes, string | null>>()
    isSame<Same<typeof tenantId, string>>()
  }
  // @ts-expect-error there is no such model
  client.comments.follow()
  // Without the models, all of it passes.
  createClient('http://127.0.0.1:8080').remark!.save({ text: 'x' })
}

/** With the tables that were generated from this project's Prisma schema. */
export async function generated() {
  const { content } = createClient<typeof ours>('http://127.0.0.1:8080')
  const row = await content.save({ content: 'a text' }).saved()
  isSame<Same<typeof row.content, string>>()
  // @ts-expect-error there is no such column
  content.save({ text: 'a text' })
}

export function definitions() {
  // @ts-expect-error there is no such column, though the others are right
  defineModel('Comment', { columns: { author: { fromToken: 'sub' }, colour: {} } })
  // @ts-expect-error a boolean is no claim
  defineModel('Comment', { columns: { flag: { fromToken: 'sub' } } })
  // @ts-expect-error there is no such column
  defineModel('Comment', { visibleTo: { author: 'sub', colour: 'tenant' } })
}
