/**
 * P8 and P12: a column of every type reads back as it was written, by whichever way it went in (GraphQL, REST) and comes out (row, list,
 * page, receipt, event over SSE and WebSocket, SQL), on both set-ups. The model stands in a copy of the tree.
 */
import { randomUUID } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Spillway, setUps } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { query } from '../harness/mariadb.ts'
import { checkDocument, OpenApi } from '../harness/openapi.ts'
import { seeded } from '../harness/random.ts'
import type { SseClient } from '../harness/sse.ts'
import type { Tree } from '../harness/tree.ts'
import type { WsClient } from '../harness/ws.ts'
import { bootTree, columns, nullableOf, treeWithEvery, types, usualOf } from './every.ts'
import { arbitraryRow } from './every-arbitrary.ts'

let tree: Tree
beforeAll(async () => {
  tree = await treeWithEvery()
}, 180_000)
afterAll(() => tree?.[Symbol.asyncDispose]())

interface Sample {
  id: string
  input: Record<string, Json>
  output: Record<string, Json>
}

/** Rows in which each value of each type occurs: in its required column, and every other time in the nullable one and the one with a default. */
function samples(): Sample[] {
  const most = Math.max(...Object.values(types).map(({ kept }) => kept.length))
  return Array.from({ length: most }, (_, i) => {
    const sample: Sample = { id: randomUUID(), input: {}, output: {} }
    for (const [name, { kept, usual }] of Object.entries(types)) {
      const [input, output = input] = kept[i % kept.length]!
      const isWhole = i % 2 === 0
      Object.assign(sample.input, { [name]: input }, isWhole && { [nullableOf(name)]: input, [usualOf(name)]: input })
      Object.assign(sample.output, {
        [name]: output,
        [nullableOf(name)]: isWhole ? output : null,
        [usualOf(name)]: isWhole ? output : usual[1],
      })
    }
    return sample
  })
}

const fields = columns.join(' ')
const save = `mutation ($input: EveryInput!, $id: ID) { saveEvery(input: $input, id: $id, waitMs: 30000) { status duplicate conflicts failure { message } every { ${fields} } } }`
const saved = `subscription { everySaved { every { id ${fields} } } }`

describe.each(setUps)('A model with a column of every type (%s)', (setUp) => {
  let system: Spillway
  let sse: SseClient
  let ws: WsClient
  const all = samples()
  beforeAll(async () => {
    system = await bootTree(tree, setUp)
    sse = await system.client.sse(saved)
    ws = await system.client.ws()
    ws.subscribe('1', saved)
    // Both streams have begun when they have sent this row.
    await holds(async () => {
      const { data, errors } = await system.client.graphql(save, { input: all[0]!.input })
      expect(errors).toBeUndefined()
      expect(data.saveEvery).toMatchObject({ status: 'SAVED' })
      expect([sse.results.length > 0, ws.of('1').length > 0]).toEqual([true, true])
    })
  }, 120_000)
  afterAll(async () => {
    sse?.close()
    ws?.close()
    await system?.stop()
  })

  test('returns each value as it was written, by every way (P8)', async () => {
    for (const [i, { id, input, output }] of all.entries()) {
      if (i % 2 === 0) {
        const { data, errors } = await system.client.graphql(save, { input, id })
        expect(errors).toBeUndefined()
        expect(data.saveEvery).toEqual({
          status: 'SAVED',
          duplicate: false,
          conflicts: 0,
          failure: null,
          every: output,
        })
      } else {
        const response = await system.client.fetch('/everies', {
          method: 'POST',
          body: JSON.stringify({ id, ...input }),
        })
        expect([response.status, await response.json()]).toEqual([202, { id, status: 'QUEUED' }])
      }
    }
    const ids = all.map(({ id }) => id)
    const expected = new Map(all.map(({ id, output }) => [id, { id, ...output }]))
    const compare = (rows: readonly Json[]) => {
      const found = new Map(rows.filter(({ id }) => expected.has(id)).map((row) => [row.id, row]))
      for (const id of ids) expect(found.get(id)).toMatchObject(expected.get(id)!)
    }
    await holds(() => compare(sse.results.map(({ data }) => data.everySaved.every)), { timeoutMs: 30_000 })
    await holds(() => compare(ws.of('1').map(({ payload }) => payload.data.everySaved.every)))
    for (let cached = 0; cached < 2; cached++) {
      const { data } = await system.client.graphql(`{ everies(first: 100) { edges { node { id ${fields} } } } }`)
      compare(data.everies.edges.map(({ node }: Json) => node))
      compare((await (await system.client.fetch('/everies?first=100')).json()).results)
    }
    const one = `query ($id: ID!) { every(id: $id) { id ${fields} } node(id: $id) { ... on Every { id ${fields} } } receipt(id: $id) { ... on EveryReceipt { every { id ${fields} } } } }`
    for (const id of ids) {
      const { data } = await system.client.graphql(one, { id })
      expect(data).toMatchObject({
        every: expected.get(id),
        node: expected.get(id),
        receipt: { every: expected.get(id) },
      })
      expect(await system.client.receipt(id)).toMatchObject({ status: 'SAVED', every: expected.get(id) })
    }
  })

  test('is described by /openapi.json: what is saved, its receipt, its list, and refusals', async () => {
    const api = await OpenApi.of(system.client)
    await checkDocument(api.document)
    const { EveryInput } = api.document.components.schemas
    for (const { input } of all) {
      expect(api.errorsOf(EveryInput, input), JSON.stringify(input)).toEqual([])
      const id = randomUUID()
      expect(await api.send('post', '/everies', { body: { ...input, id } })).toMatchObject({
        status: 202,
        body: { id },
      })
      const receipt = () => api.send('get', '/receipts/{id}', { at: `/receipts/${id}` })
      await holds(async () => expect((await receipt()).body.status).toBe('SAVED'))
    }
    await api.send('get', '/everies', { query: '?first=100' })
    const tooLarge = await api.send('post', '/everies', { body: 'x'.repeat(10 * 1024 * 1024) })
    expect(tooLarge).toMatchObject({ status: 413, described: true })
  })

  test('has the values in its table as the database holds them', async () => {
    const rows = await raw(
      system,
      'SELECT id, HEX(text) AS text, CAST(big AS CHAR) AS big, HEX(bytes) AS bytes, mood FROM Every',
    )
    for (const { id, output } of all) {
      const row = rows.find((one) => one.id === id)!
      const hex = (value: string, encoding: BufferEncoding) =>
        Buffer.from(value, encoding).toString('hex').toUpperCase()
      expect(row).toMatchObject({
        text: hex(output.text, 'utf8'),
        big: output.big,
        bytes: hex(output.bytes, 'base64'),
        mood: output.mood === 'SAD' ? 'very sad' : 'HAPPY',
      })
    }
  })

  test('refuses what a column cannot hold, with the column and its limit, in GraphQL and REST', async () => {
    const valid = all[0]!.input
    for (const [name, { refused }] of Object.entries(types)) {
      for (const [value, message] of refused) {
        const input = { ...valid, [name]: value }
        const { errors } = await system.client.graphql(save, { input })
        expect(errors?.[0]?.message).toMatch(message)
        expect(errors[0].message).toContain(name)
        expect(errors[0].extensions.code).toBe('BAD_USER_INPUT')
        const response = await system.client.fetch('/everies', { method: 'POST', body: JSON.stringify(input) })
        const refusal = (await response.json()).errors[0]
        expect([response.status, refusal.extensions.code]).toEqual([400, 'BAD_USER_INPUT'])
        expect(refusal.message).toMatch(message)
        expect(refusal.message).toContain(`${name} of Every`)
      }
    }
  })

  test('takes what JSON text says twice, or beyond a double, as JSON.parse does or not at all', async () => {
    const id = randomUUID()
    const text = (name: string, value: string) =>
      JSON.stringify({ ...all[0]!.input, id, [name]: '@' }).replace(`"${name}":"@"`, () => `"${name}":${value}`)
    const post = async (body: string) => (await system.client.fetch('/everies', { method: 'POST', body })).status
    expect(await post(text('ratio', '1e999'))).toBe(400)
    expect(await post(text('data', '{"a":1e999}'))).toBe(400)
    expect(await post(text('data', '{"a":12345678901234567890}'))).toBe(400)
    expect(await post(text('data', '{"a":1,"b":2,"a":3}'))).toBe(202)
    await holds(async () => expect((await system.client.receipt(id)).every).toMatchObject({ data: { b: 2, a: 3 } }))
  })

  test('returns random rows of saveEveries as they were written (P8)', async () => {
    const { seed } = seeded()
    const rows = fc.sample(arbitraryRow, { numRuns: 100, seed })
    const inputs = rows.map(({ input }) => ({ ...input, id: randomUUID() }))
    const { data, errors } = await system.client.graphql(
      'mutation ($inputs: [EveryInput!]!) { saveEveries(inputs: $inputs) { saveId } }',
      { inputs },
    )
    expect(errors, `SEED=${seed}`).toBeUndefined()
    expect(data.saveEveries).toHaveLength(100)
    await holds(
      async () => {
        const answer = await system.client.graphql(`{ everies(first: 100) { edges { node { id ${fields} } } } }`)
        const found = new Map(answer.data.everies.edges.map(({ node }: Json) => [node.id, node]))
        for (const [i, { output }] of rows.entries())
          expect(found.get(inputs[i]!.id), `SEED=${seed}`).toMatchObject(output)
      },
      { timeoutMs: 30_000 },
    )
    const again = await system.client.graphql(
      'mutation ($inputs: [EveryInput!]!) { saveEveries(inputs: $inputs) { duplicate } }',
      { inputs },
    )
    expect(again.data.saveEveries).toEqual(inputs.map(() => ({ duplicate: true })))
  })

  test('takes a retry for a duplicate after the queue has forgotten the id, and other values for a conflict (P3)', async () => {
    await Promise.all([...system.apis, ...system.workers].map((process) => system.kill(process, 'SIGTERM')))
    const later = await bootTree(tree, setUp, { env: { DATABASE_URL: system.env.DATABASE_URL! } })
    try {
      for (const { id, input, output } of all) {
        const { data, errors } = await later.client.graphql(save, { input, id })
        expect(errors).toBeUndefined()
        expect(data.saveEvery).toMatchObject({ status: 'SAVED', conflicts: 0, failure: null, every: output })
      }
      const [first, second] = all
      const other = await later.client.graphql(save, { id: first!.id, input: second!.input })
      expect(other.errors[0].extensions.code).toBe('ID_CONFLICT')
      expect((await later.client.graphql('{ queue { deadLetters } }')).data.queue.deadLetters).toBe(0)
    } finally {
      await later.stop()
    }
  }, 120_000)
})

async function raw({ env }: Spillway, sql: string): Promise<Json[]> {
  if (env.DATABASE_URL!.startsWith('mysql:')) return await query(env.DATABASE_URL!, sql)
  using file = new DatabaseSync(env.DATABASE_URL!.slice('file:'.length), { readOnly: true })
  return file.prepare(sql).all()
}
