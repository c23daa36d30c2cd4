/** Models, ids and retries, batches, receipts and errors. */
import { randomUUID } from 'node:crypto'
import { type Check, equal, holds } from './check.ts'
import { ask, graphql, type Json, request, Stream, until } from './server.ts'
import { type Input, type Subject, save, saveRows } from './subject.ts'

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const receiptQuery = '{ saveId status duplicate conflicts }'
const receiptsOf = `query ($ids: [ID!]!) { receipts(ids: $ids) ${receiptQuery} }`

const receipts = async ({ server }: Subject, ids: readonly string[]): Promise<Json[]> =>
  (await ask(server, receiptsOf, { ids })).receipts

async function isSaved(subject: Subject, id: string): Promise<void> {
  await until(
    () => `the save ${id} did not become SAVED: does a worker run, and does the database take rows?`,
    async () => (await receipts(subject, [id]))[0]?.status === 'SAVED',
    subject.server.withinMs,
  )
}

const rowOf = async ({ server, documents }: Subject, id: string): Promise<Json> =>
  (await ask(server, documents.one, { id })).row

/** A document that is wrong, or an input: the code, and the status of `application/graphql-response+json`. */
async function isRefused(
  { server }: Subject,
  { query, variables }: { query: string; variables?: Input },
  code: string,
  statuses: readonly number[],
): Promise<void> {
  const { status, body } = await graphql(server, query, variables)
  const [error] = body?.errors ?? []
  equal(error?.extensions?.code, code, `the code in ${status} ${JSON.stringify(body)}`)
  holds(typeof error.message === 'string' && error.message !== '', 'the error has no message')
  holds(statuses.includes(status), `the status is ${status}; expected ${statuses.join(' or ')}`)
}

/** Columns whose values come back as they were sent. */
const exact = ['String', 'Int', 'BigInt', 'Boolean', 'Enum']

export const checks: Check[] = [
  {
    heading: 'Models',
    title: 'lists models, names and columns at /models.json, with an ETag that answers 304',
    async run({ server }) {
      const { body, headers } = await request(server, '/models.json')
      for (const { name, names, columns, by } of body.models) {
        for (const key of ['one', 'many', 'save', 'saveMany', 'saved'])
          equal(typeof names?.[key], 'string', `names.${key} of ${name}`)
        for (const column of columns) equal(typeof column.type, 'string', `the type of ${name}.${column.name}`)
        holds(Array.isArray(by), `by of ${name} is no list`)
      }
      const again = await request(server, '/models.json', { headers: { 'if-none-match': headers.get('etag') ?? '' } })
      equal(again.status, 304, 'the status of a request with If-None-Match')
    },
  },
  {
    heading: 'Saves',
    title: 'acknowledges a save with an id of the client, and saves what was sent',
    async run(subject) {
      const input = { ...subject.input(), id: randomUUID() }
      const { query, variables } = subject.documents.saveAndWait(input)
      const receipt = (await ask(subject.server, query, variables)).save
      equal(receipt.saveId, input.id, 'saveId')
      equal(receipt.model, subject.model.name, 'model')
      equal(receipt.duplicate, false, 'duplicate')
      holds(
        ['QUEUED', 'SAVED'].includes(receipt.status),
        `status is ${receipt.status} ${JSON.stringify(receipt.failure)}`,
      )
      await isSaved(subject, input.id)
      const row = await rowOf(subject, input.id)
      for (const { name, type } of subject.model.columns)
        if (exact.includes(type) && name in input) equal(row?.[name], input[name as 'id'], `${name} of the row`)
    },
  },
  {
    heading: 'Saves',
    title: 'makes a UUID for a save without an id',
    async run(subject) {
      const [one, other] = await save(subject, subject.input(), subject.input())
      for (const { saveId } of [one, other])
        holds(uuid.test(saveId), `saveId is ${saveId}; expected a UUID in lower case`)
      holds(one.saveId !== other.saveId, 'two saves have one id')
    },
  },
  {
    heading: 'Ids and retries',
    title: 'acknowledges a save that is sent again under its id as a duplicate, and saves one row',
    async run(subject) {
      const input = { ...subject.input(), id: randomUUID() }
      const [first] = await save(subject, input)
      const [again] = await save(subject, input)
      equal([first.saveId, first.duplicate], [input.id, false], 'saveId and duplicate of the first save')
      equal([again.saveId, again.duplicate], [input.id, true], 'saveId and duplicate of the same save')
      await isSaved(subject, input.id)
      const [later] = await save(subject, input)
      equal([later.status, later.duplicate], ['SAVED', true], 'status and duplicate of the same save once it is a row')
      const [upper] = await save(subject, { ...input, id: input.id.toUpperCase() })
      equal(upper.saveId, input.id, 'saveId of the same id in upper case')
    },
  },
  {
    heading: 'Ids and retries',
    title: 'acknowledges the same save that ten clients send at once, and one of them is no duplicate',
    async run(subject) {
      const input = { ...subject.input(), id: randomUUID() }
      const all = await Promise.all(Array.from({ length: 10 }, async () => (await save(subject, input))[0]))
      equal(all.filter(({ duplicate }) => !duplicate).length, 1, 'how many of ten have duplicate: false')
    },
  },
  {
    heading: 'Ids and retries',
    title: 'refuses other content under an id with ID_CONFLICT, and leaves the first save as it is',
    async run(subject) {
      const id = randomUUID()
      const input = { ...subject.input(), id }
      await save(subject, input)
      const inputs = [{ ...subject.input(), id }]
      await isRefused(subject, { query: subject.documents.saveMany, variables: { inputs } }, 'ID_CONFLICT', [409])
      await isSaved(subject, id)
      const row = await rowOf(subject, id)
      for (const { name, type } of subject.model.columns)
        if (exact.includes(type) && name in input) equal(row?.[name], input[name as 'id'], `${name} of the row`)
    },
    unless(subject) {
      const [one, other] = [subject.input(), subject.input()]
      return JSON.stringify(one) === JSON.stringify(other) ? 'no column takes a text of this suite' : undefined
    },
  },
  {
    heading: 'Ids and retries',
    title: 'refuses an id that is no UUID with BAD_USER_INPUT',
    run: (subject) =>
      isRefused(
        subject,
        { query: subject.documents.saveMany, variables: { inputs: [{ ...subject.input(), id: 'one' }] } },
        'BAD_USER_INPUT',
        [400],
      ),
  },
  {
    heading: 'Batches',
    title: 'acknowledges a batch with a receipt for each input, in their order',
    async run(subject) {
      const ids = Array.from({ length: 20 }, () => randomUUID())
      const inputs = ids.map((id) => ({ ...subject.input(), id }))
      equal(
        (await save(subject, ...inputs)).map(({ saveId }) => saveId),
        ids,
        'the ids of the receipts',
      )
      const again = await save(subject, ...inputs)
      equal(
        again.map(({ saveId, duplicate }) => [saveId, duplicate]),
        ids.map((id) => [id, true]),
        'the same batch',
      )
    },
  },
  {
    heading: 'Batches',
    title: 'refuses a batch as a whole: no input is enqueued beside one that is refused',
    async run(subject) {
      const id = randomUUID()
      const inputs = [
        { ...subject.input(), id },
        { ...subject.input(), id: 'none' },
      ]
      await isRefused(subject, { query: subject.documents.saveMany, variables: { inputs } }, 'BAD_USER_INPUT', [400])
      equal(await receipts(subject, [id]), [null], 'the receipt of the other input')
    },
  },
  {
    heading: 'Batches',
    title: 'refuses more than 1,000 inputs with BAD_USER_INPUT',
    run(subject) {
      const inputs = Array.from({ length: 1_001 }, () => subject.input())
      return isRefused(subject, { query: subject.documents.saveMany, variables: { inputs } }, 'BAD_USER_INPUT', [400])
    },
  },
  {
    heading: 'Errors',
    title: 'refuses a document with an unknown field with GRAPHQL_VALIDATION_FAILED',
    run: (subject) => isRefused(subject, { query: '{ noSuchField }' }, 'GRAPHQL_VALIDATION_FAILED', [400, 422]),
  },
  {
    heading: 'Errors',
    title: 'answers a body that is not JSON with 400 and JSON that has a code',
    async run({ server }) {
      const headers = { 'content-type': 'application/json', accept: 'application/graphql-response+json' }
      const { status, body } = await request(server, '/graphql', { method: 'POST', headers, body: '{' })
      equal(status, 400, 'the status')
      equal(typeof body?.errors?.[0]?.extensions?.code, 'string', `the type of the code in ${JSON.stringify(body)}`)
    },
  },
  {
    heading: 'Errors',
    title: 'answers errors of a document as application/json with status 200',
    async run({ server }) {
      const { status, body } = await graphql(server, '{ noSuchField }', {}, 'application/json')
      equal(status, 200, 'the status')
      equal(body.errors?.[0]?.extensions?.code, 'GRAPHQL_VALIDATION_FAILED', 'the code')
    },
  },
  {
    heading: 'Errors',
    title: 'refuses a token that is not valid with 401 UNAUTHENTICATED, saves and streams alike',
    async run(subject) {
      const server = { ...subject.server, token: 'no.valid.token' }
      await isRefused({ ...subject, server }, { query: '{ queue { depth } }' }, 'UNAUTHENTICATED', [401])
      const stream = await Stream.open(server, subject.documents.saved())
      stream.close()
      equal(stream.status, 401, 'the status of a stream')
    },
    unless: ({ server }) => (server.token === undefined ? 'there is no --token' : undefined),
  },
  {
    heading: 'Following saves to their end',
    title: 'returns receipts in the order of the ids, and null for an id that it does not know',
    async run(subject) {
      const [one, other] = (await saveRows(subject, 2)) as [string, string]
      const found = await receipts(subject, [other, randomUUID(), one])
      equal(
        found.map((receipt) => receipt?.saveId ?? null),
        [other, null, one],
        'the ids of the receipts',
      )
    },
  },
  {
    heading: 'Following saves to their end',
    title: 'completes a subscription to receipts when all of them are SAVED',
    async run(subject) {
      const ids = await saveRows(subject, 5)
      const query = `subscription ($ids: [ID!]!) { receipts(ids: $ids) { saveId status } }`
      const stream = await Stream.open(subject.server, query, { ids })
      await stream.until('expected `event: complete`', ({ frames }) => frames.some(({ event }) => event === 'complete'))
      const last = new Map(
        stream.results.flatMap(({ data }) => data.receipts).map((one: Json) => [one.saveId, one.status]),
      )
      equal(
        ids.map((id) => last.get(id)),
        ids.map(() => 'SAVED'),
        'the last status of each save',
      )
      await stream.until('expected the end of the connection', ({ isEnded }) => isEnded)
    },
  },
]
