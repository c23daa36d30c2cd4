/** Events of other releases: what a reader takes for another release's, and what for damage. */
import { expect, test } from 'vitest'
import { decodeEvents, encodeEvents } from '../../src/events/codec.ts'
import { Comment, models } from '../harness/models.ts'

const now = new Date()
const row = { id: 'a', createdAt: now, savedAt: now, postId: 'p', author: 'ann', body: 'b', rating: null, mood: 'SAD' }
const text = encodeEvents([{ type: 'saved', model: Comment, row }])

test('An event of a model decodes to the row that was encoded', () => {
  expect(decodeEvents(text, models)).toEqual([{ type: 'saved', model: models.get('Comment'), row }])
})

test.each([
  ['a model that this release does not have', text.replace('"Comment"', '"Vote"')],
  ['a value that its enum does not have', text.replace('"SAD"', '"FURIOUS"')],
  ['no value of a column that a newer release has dropped', text.replace('"body":"b",', '')],
  ['a later version', text.replace('"v":2', '"v":3')],
])('An event with %s is of another release, and is skipped', (_, changed) => {
  expect(changed).not.toBe(text)
  expect(decodeEvents(changed, models)).toEqual([{ type: 'unknown' }])
})

test('An event with a column that this release does not know decodes without it', () => {
  const changed = text.replace('"body":"b"', '"body":"b","later":1')
  expect(decodeEvents(changed, models)).toEqual([{ type: 'saved', model: models.get('Comment'), row }])
})

test.each([
  ['a value of another type', text.replace('"body":"b"', '"body":7')],
  ['no id', text.replace('"id":"a",', '')],
  ['no JSON', text.slice(0, -1)],
])('An event with %s is damaged', (_, changed) => {
  expect(changed).not.toBe(text)
  expect(decodeEvents(changed, models)).toBeUndefined()
})

test('An event of a failure decodes to what was encoded, with a model and without', () => {
  const failure = { code: 'REJECTED' as const, message: 'no', attempts: 1, failedAt: now }
  const [named, unnamed] = [
    { type: 'failed' as const, id: 'a', model: 'Comment', failure },
    { type: 'failed' as const, id: 'b', failure },
  ]
  expect(decodeEvents(encodeEvents([named, unnamed]), models)).toEqual([named, unnamed])
  // Release 0.1 wrote no model; it reads these fields, and no other one.
  const text = '[{"v":1,"type":"failed","id":"b","failure":{"code":"REJECTED","message":"no","attempts":1,"failedAt":'
  expect(encodeEvents([{ ...unnamed, model: undefined }])).toBe(`${text}${+now}}}]`)
  expect(JSON.parse(encodeEvents([named]))).toEqual([
    { v: 1, type: 'failed', id: 'a', model: 'Comment', failure: { ...failure, failedAt: +now } },
  ])
})
