/**
 * P3 where the queue has forgotten that an id is saved and meets another content under it: the first sender's retry is answered by its
 * row, and every other sender as before. On both set-ups, in real processes.
 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps } from '../harness/boot.ts'
import { holds } from '../harness/eventually.ts'
import { putRows, statement } from '../harness/rows.ts'

const fields = '{ saveId status duplicate conflicts ... on ContentReceipt { content { content } } failure { code } }'
const saving = `mutation ($id: ID, $content: String!, $waitMs: Int) { save(id: $id, content: $content, waitMs: $waitMs) ${fields} }`
const savingMany = `mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) ${fields} }`
const asking = `query ($id: ID!) { receipt(id: $id) ${fields} }`

describe.each(setUps)('Spillway (%s)', (setUp) => {
  let system: Spillway
  let databaseUrl: string
  beforeAll(async () => {
    system = await boot(setUp, { workers: 0 })
    databaseUrl = system.env.DATABASE_URL!
    await holds(async () => expect((await fetch(`${system.url}/readyz`)).status).toBe(200))
  })
  afterAll(() => system?.stop())

  /** The embedded worker waits until its table takes rows; on Redis there is no worker yet. */
  const refuseRows = async () => {
    const refusal = "CREATE TRIGGER refuse BEFORE INSERT ON Content BEGIN SELECT RAISE(ABORT, 'not now'); END"
    if (system.embedded) await statement(databaseUrl, refusal)
  }
  const takeRows = async () => {
    if (system.embedded) await statement(databaseUrl, 'DROP TRIGGER refuse')
    else await system.startWorker()
  }

  const save = async (id: string, content: string, waitMs?: number) => {
    const { body } = await system.client.graphql(saving, { id, content, waitMs })
    return body.data?.save ?? body.errors[0].extensions.code
  }
  const rest = async (id: string, content: string) => {
    const response = await fetch(`${system.url}/save`, { method: 'POST', body: JSON.stringify({ id, content }) })
    // biome-ignore lint/suspicious/noExplicitAny: a test knows what it asked for.
    return { status: response.status, body: (await response.json()) as any }
  }

  test("answers the first sender's retry SAVED while a later, conflicting save is pending under its id (P3)", async () => {
    const id = randomUUID()
    const other = randomUUID()
    await putRows(databaseUrl, [id], 'first')
    await refuseRows()
    expect(await save(id, 'later')).toMatchObject({ status: 'QUEUED', duplicate: false })

    const saved = {
      saveId: id,
      status: 'SAVED',
      duplicate: true,
      conflicts: 0,
      content: { content: 'first' },
      failure: null,
    }
    expect(await save(id, 'first')).toEqual(saved)
    expect(await save(id.toUpperCase(), 'first', 20_000)).toEqual(saved)
    expect(await rest(id, 'first')).toMatchObject({ status: 202, body: { id, status: 'SAVED' } })
    expect((await system.client.graphql(asking, { id })).body.data.receipt).toEqual({ ...saved, duplicate: false })
    // The later sender's retry is its own; a third content is refused.
    expect(await save(id, 'later')).toMatchObject({ status: 'QUEUED', duplicate: true })
    expect(await save(id, 'third')).toBe('ID_CONFLICT')
    expect(await rest(id, 'third')).toMatchObject({ status: 409 })
    // Among others: all of them, or none.
    const inputs = (...contents: string[]) => ({
      inputs: [
        { id, content: contents[0] },
        { id: other, content: 'beside it' },
        { content: 'and a new one' },
        ...contents.slice(1).map((content) => ({ id, content })),
      ],
    })
    const refused = await system.client.graphql(savingMany, inputs('first', 'third'))
    expect(refused.body.errors[0].extensions.code).toBe('ID_CONFLICT')
    const many = await system.client.graphql(savingMany, inputs('first'))
    expect(many.body.data.saveMany).toMatchObject([
      saved,
      { saveId: other, status: 'QUEUED', duplicate: false },
      { status: 'QUEUED', duplicate: false },
    ])
    // What was pending becomes a conflict, and nobody else hears of it.
    await takeRows()
    await holds(async () => expect(await save(id, 'later')).toMatchObject({ status: 'FAILED', conflicts: 1 }), {
      timeoutMs: 30_000,
    })
    expect(await save(id, 'first')).toEqual({ ...saved, conflicts: 1 })
    expect((await system.client.graphql(asking, { id })).body.data.receipt).toMatchObject({ status: 'SAVED' })
    for (const worker of system.workers.splice(0)) {
      worker.kill('SIGKILL')
      await worker.exited
    }
  })

  test('answers a save of other content than the pending one STORE_UNAVAILABLE while the database cannot tell which came first', async () => {
    const [id, certain] = [randomUUID(), randomUUID()]
    if (system.embedded) await statement(databaseUrl, 'DROP TRIGGER IF EXISTS refuse')
    await putRows(databaseUrl, [id], 'first')
    await refuseRows()
    expect(await save(id, 'later')).toMatchObject({ status: 'QUEUED' })
    await statement(databaseUrl, 'ALTER TABLE Content RENAME TO Elsewhere')
    try {
      for (const content of ['first', 'third']) {
        const { body } = await system.client.graphql(saving, { id, content })
        expect(body.errors[0]).toMatchObject({
          message: expect.stringContaining('Nothing was enqueued'),
          extensions: { code: 'STORE_UNAVAILABLE', retryAfterMs: expect.any(Number) },
        })
        expect(await rest(id, content)).toMatchObject({ status: 503 })
      }
      expect(await save(id, 'later')).toMatchObject({ status: 'QUEUED', duplicate: true })
      expect(await save(certain, 'one')).toMatchObject({ status: 'QUEUED', duplicate: false })
    } finally {
      await statement(databaseUrl, 'ALTER TABLE Elsewhere RENAME TO Content')
    }
    expect(await save(id, 'first')).toMatchObject({ status: 'SAVED', duplicate: true })
    expect(await save(id, 'third')).toBe('ID_CONFLICT')
    await takeRows()
    // What the queue itself remembers as saved needs no database.
    await holds(async () => expect(await save(certain, 'one')).toMatchObject({ status: 'SAVED' }), {
      timeoutMs: 30_000,
    })
    await statement(databaseUrl, 'ALTER TABLE Content RENAME TO Elsewhere')
    try {
      expect(await save(certain, 'two')).toBe('ID_CONFLICT')
    } finally {
      await statement(databaseUrl, 'ALTER TABLE Elsewhere RENAME TO Content')
    }
  })
})
