/** What the server tells the console of the models, and the first document of GraphiQL; the console itself names no model. */
import { readdirSync, readFileSync } from 'node:fs'
import { parse, validate } from 'graphql'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Column } from '../../src/model/columns.ts'
import type { Model } from '../../src/model/model.ts'
import { models as ours } from '../../src/models/index.ts'
import { welcomeOf } from '../../src/server/graphiql.ts'
import { sampleOf } from '../../src/server/samples.ts'
import { models } from '../harness/models.ts'
import { tokenOf } from '../harness/tenants.ts'
import { type Consoles, serveConsoles } from './consoles.ts'

let consoles: Consoles
beforeAll(async () => {
  consoles = await serveConsoles()
})
afterAll(async () => {
  await consoles?.close()
})

const path = '/models.json'
const modelsFor = async (scope?: string) => {
  const headers = scope === undefined ? {} : { authorization: `Bearer ${await tokenOf({ scope })}` }
  return await fetch(consoles.locked.url + path, { headers })
}

test(`GET ${path} needs a token, and one of the scopes, where the server has authentication and no introspection`, async () => {
  const none = await modelsFor()
  expect(none.status).toBe(401)
  expect(await none.text()).not.toContain('Comment')
  const idle = await modelsFor('')
  expect(idle.status).toBe(403)
  expect(await idle.text()).not.toContain('Comment')
  for (const scope of ['read', 'write', 'admin']) {
    const response = await modelsFor(scope)
    expect(response.status, scope).toBe(200)
    expect(response.headers.get('cache-control')).toBe('private, no-cache')
  }
})

test(`GET ${path} has the columns of each model in their form for clients, and nothing of the database or of claims`, async () => {
  const response = await fetch(consoles.open.url + path)
  const text = await response.text()
  const { models: list } = JSON.parse(text)
  expect(list.map(({ name }: { name: string }) => name)).toEqual(['Content', 'Comment', 'Memo', 'Every'])
  expect(list[1]).toEqual({
    name: 'Comment',
    names: {
      one: 'comment',
      many: 'comments',
      save: 'saveComment',
      saveMany: 'saveComments',
      saved: 'commentSaved',
      flat: false,
    },
    columns: [
      { name: 'postId', type: 'String', nullable: false, maxLength: 36, sample: 'something' },
      { name: 'author', type: 'String', nullable: false, maxLength: 100, fromToken: true },
      { name: 'body', type: 'String', nullable: false, sample: 'something' },
      { name: 'rating', type: 'Int', nullable: true, min: 1, max: 5, sample: 1 },
      {
        name: 'mood',
        type: 'Enum',
        enumName: 'Mood',
        values: ['HAPPY', 'SAD', 'Mixed_1'],
        nullable: false,
        default: 'HAPPY',
        sample: 'HAPPY',
      },
    ],
    by: [['postId'], ['author'], ['author', 'postId']],
  })
  const usual = list[3].columns.filter(({ name }: { name: string }) => name.startsWith('usual'))
  const defaults = [
    'a text',
    7,
    '9007199254740993',
    0.5,
    '12.5',
    true,
    '2026-01-31T12:00:00.000Z',
    { a: [1, null] },
    'AP8=',
    'SAD',
  ]
  expect(usual.map((column: { default: unknown }) => column.default)).toEqual(defaults)
  // Claims, and names in the database.
  expect(text).not.toMatch(/"(sub|tenant|dbName|table|happy)"/)
})

test.each([...models.values()].map((model) => [model.name, model] as const))(
  'the first document of GraphiQL is valid, and its save is accepted: %s',
  async (name, model) => {
    const document = parse(welcomeOf(model))
    expect(validate(consoles.served.schema, document)).toEqual([])
    expect(document.definitions.map((one) => 'name' in one && one.name?.value)).toEqual(['Save', 'List', 'Saved'])
    const response = await fetch(`${consoles.open.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query: welcomeOf(model), operationName: 'Save' }),
    })
    const { data, errors } = await response.json()
    expect(errors, name).toBeUndefined()
    expect(data[model.names.save]).toMatchObject({ status: 'SAVED' })
    consoles.served.store.clear(model)
  },
)

test('a column has no sample where the token gives it, where it names a row, or where no value at hand fits its rules', () => {
  const samplesOf = (model: Model) => model.columns.map((column) => sampleOf(model, column))
  const comment = models.get('Comment')!
  expect(samplesOf(comment)).toEqual(['something', undefined, 'something', 1, 'HAPPY'])
  const reference = { columns: ['postId'], model: 'Content', parentColumns: ['id'] }
  expect(samplesOf({ ...comment, references: [reference] })[0]).toBeUndefined()
  const ruled = (rules: Partial<Column>) =>
    sampleOf(comment, { ...comment.columns.find(({ name }) => name === 'body')!, ...rules })
  expect(ruled({ pattern: /^\d+$/ })).toBeUndefined()
  expect(ruled({ pattern: /^[a-z]+$/ })).toBe('something')
  expect(ruled({ maxLength: 4 })).toBe('some')
  expect(ruled({ type: 'Int', min: 10, max: 20 })).toBe(10)
  expect(ruled({ type: 'Bytes', exactBytes: 3 })).toBe('AAAA')
})

test('no file of the console names a model', () => {
  const names = new Set(ours.flatMap(({ name, names }) => [name, names.one, names.many, names.saved]))
  names.delete('saved')
  const files = readdirSync('web', { recursive: true, encoding: 'utf8' }).filter(
    (file) => /\.(tsx?|graphql|html)$/.test(file) && !file.startsWith('dist'),
  )
  expect(files.length).toBeGreaterThan(20)
  const found = files.flatMap((file) =>
    readFileSync(`web/${file}`, 'utf8')
      .split('\n')
      // HTTP headers, and an attribute of HTML.
      .map((line) => line.replaceAll(/content-(type|security-policy)| content="/gi, ''))
      .filter((line) => [...names].some((name) => new RegExp(`(?<![\\w/])${name}\\b`).test(line)))
      .map((line) => `${file}: ${line}`),
  )
  expect(found).toEqual([])
})
