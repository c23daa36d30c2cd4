/** Sorter: which rows, dead letters and messages of a newer release a batch of entries has. */
import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { encode } from '../../src/model/message.ts'
import { dataText, type Model, type Models } from '../../src/model/model.ts'
import type { Entry } from '../../src/queue/queue.ts'
import { Sorter } from '../../worker/sort.ts'
import { Comment, Content, Every, Memo, models } from '../harness/models.ts'

let handles = 0
const raw = (body: unknown, id?: string): Entry => ({
  handle: String(++handles),
  id,
  body: typeof body === 'string' ? body : JSON.stringify(body),
  deliveries: 1,
})
const at = Date.UTC(2026, 10, 27, 12)
const entryOf = (model: Model, values: Record<string, unknown>, id: string = randomUUID()): Entry =>
  raw(encode({ model, id, at, data: dataText(model, values) }), id)
const content = (text = 'a text', id?: string) => entryOf(Content, { content: text }, id)
const memo = (text = 'a text', id?: string) => entryOf(Memo, { tenantId: 't', topic: 1, text }, id)
const comment = (id?: string) =>
  entryOf(Comment, { postId: randomUUID(), author: 'a', body: 'b', rating: null, mood: 'SAD' }, id)

const sorter = new Sorter(models)
const shown = ({ rows, deadLetters, newer }: ReturnType<Sorter['sort']>) => ({
  rows: [...rows].map(([{ name }, some]) => [name, some.map(({ row, entries }) => [row.id, entries.length])]),
  deadLetters: deadLetters.map(({ entry, failure }) => [entry, failure.code]),
  newer: newer.map(({ entry }) => entry),
})

describe('Sorter.sort', () => {
  test('groups rows by model and keeps their order within a model', () => {
    const all = [content('1'), memo('1'), comment(), content('2'), memo('2')]
    const ids = all.map(({ id }) => id)
    expect(shown(sorter.sort(all))).toEqual({
      rows: [
        [
          'Content',
          [
            [ids[0], 1],
            [ids[3], 1],
          ],
        ],
        ['Comment', [[ids[2], 1]]],
        [
          'Memo',
          [
            [ids[1], 1],
            [ids[4], 1],
          ],
        ],
      ],
      deadLetters: [],
      newer: [],
    })
    expect(shown(sorter.sort([]))).toEqual({ rows: [], deadLetters: [], newer: [] })
  })

  test('makes rows with the time of the enqueueing and one time of the saving', () => {
    const before = Date.now()
    const [row, other] = sorter.sort([content('1'), content('2')]).rows.get(Content)!
    expect(row!.row).toMatchObject({ content: '1', createdAt: new Date(at) })
    expect(+row!.row.savedAt).toBeGreaterThanOrEqual(before)
    expect(row!.row.savedAt).toEqual(other!.row.savedAt)
  })

  test('makes one row of entries with one id, model and content, also of messages of version 1', () => {
    const id = randomUUID()
    const first = raw({ v: 1, type: 'content', id, at, content: 'a text' }, id)
    const sorted = sorter.sort([first, content('a text', id), content('a text', id)])
    expect(shown(sorted)).toEqual({ rows: [['Content', [[id, 3]]]], deadLetters: [], newer: [] })
  })

  test('makes a dead letter ID_CONFLICT of an id that another content or another model has in the batch', () => {
    const id = randomUUID()
    const [other, ofMemo] = [content('another text', id), memo('a text', id)]
    expect(shown(sorter.sort([content('a text', id), other, ofMemo]))).toEqual({
      rows: [['Content', [[id, 1]]]],
      deadLetters: [
        [other, 'ID_CONFLICT'],
        [ofMemo, 'ID_CONFLICT'],
      ],
      newer: [],
    })
  })

  test.each([
    ['a version', { v: 3, id: randomUUID(), at }, /version 3; this worker understands versions 1 and 2/],
    [
      'a model',
      { v: 2, model: 'Vote', id: randomUUID(), at, data: {} },
      /model "Vote", which this worker does not have/,
    ],
    ['a column less', { v: 2, model: 'Content', id: randomUUID(), at, data: {} }, /content of Content is missing/],
    ['a column', { v: 2, model: 'Content', id: randomUUID(), at, data: { content: '', tag: 1 } }, /no column "tag"/],
    [
      'a value of an enum',
      { v: 2, model: 'Comment', id: randomUUID(), at, data: { postId: '', author: '', body: '', mood: 'ANGRY' } },
      /mood of Comment/,
    ],
  ])('returns a message with %s of a newer release as newer, and as no dead letter', (_, body, problem) => {
    const entry = raw(body)
    expect(sorter.sort([entry, content()])).toMatchObject({
      deadLetters: [],
      newer: [{ entry, problem: expect.stringMatching(problem) }],
    })
  })

  test.each([
    ['no JSON', 'something', 'UNDECODABLE'],
    ['no object', '[]', 'UNDECODABLE'],
    ['version 0', { v: 0 }, 'UNDECODABLE'],
    ['a version that is text', { v: '3' }, 'UNDECODABLE'],
    ['an unknown type of version 1', { v: 1, type: 'vote', id: randomUUID(), at }, 'UNDECODABLE'],
    ['no model', { v: 2, id: randomUUID(), at, data: {} }, 'UNDECODABLE'],
    ['no id', { v: 2, model: 'Content', at, data: { content: '' } }, 'UNDECODABLE'],
    ['an id that is no UUID', { v: 2, model: 'Content', id: '42', at, data: { content: '' } }, 'REJECTED'],
    ['data that is no object', { v: 2, model: 'Content', id: randomUUID(), at, data: 'x' }, 'UNDECODABLE'],
    ['a value of another type', { v: 2, model: 'Content', id: randomUUID(), at, data: { content: 1 } }, 'REJECTED'],
  ])('returns a message with %s as a dead letter, which no release can decode', (_, body, code) => {
    const entry = raw(body)
    expect(shown(sorter.sort([entry]))).toEqual({ rows: [], deadLetters: [[entry, code]], newer: [] })
  })

  test('takes the default of a column that the message of an older release lacks', () => {
    const id = randomUUID()
    const data = { postId: '', author: '', body: '' }
    const { rows } = sorter.sort([raw({ v: 2, model: 'Comment', id, at, data }, id)])
    expect(rows.get(Comment)![0]!.row).toMatchObject({ mood: 'HAPPY', rating: null })
  })

  test('keeps what a message of another program says out of the bounds of its problem', () => {
    const sorted = sorter.sort([raw({ v: 2, model: 'x'.repeat(100_000), id: randomUUID(), at, data: {} })])
    expect(sorted.newer[0]!.problem.length).toBeLessThan(500)
  })
})

describe('Sorter.sort with foreign keys', () => {
  const referring = (model: Model, ...parents: Model[]): Model => ({
    ...model,
    references: parents.map(({ name }) => ({ columns: ['parentId'], model: name, parentColumns: ['id'] })),
  })
  const order = (given: readonly Model[], entries: readonly Entry[]) => {
    const listed: Models = new Map(given.map((model) => [model.name, model]))
    return [...new Sorter(listed).sort(entries).rows.keys()].map(({ name }) => name)
  }
  const entries = [memo(), comment(), content()]

  test('puts parents before their children, whatever the order of models and entries', () => {
    const chain = [referring(Memo, Comment), referring(Comment, Content), Content]
    expect(order(chain, entries)).toEqual(['Content', 'Comment', 'Memo'])
    expect(order(chain.toReversed(), entries.toReversed())).toEqual(['Content', 'Comment', 'Memo'])
    // A model between them without entries.
    expect(order([referring(Memo, Every), referring(Every, Content), Content], [memo(), content()])).toEqual([
      'Content',
      'Memo',
    ])
  })

  test('has every model once where they refer to each other or to themselves', () => {
    const circle = [referring(Memo, Comment), referring(Comment, Content), referring(Content, Memo)]
    expect(order(circle, entries).toSorted()).toEqual(['Comment', 'Content', 'Memo'])
    expect(order([referring(Memo, Memo), Content], [memo(), content()])).toEqual(['Memo', 'Content'])
  })
})
