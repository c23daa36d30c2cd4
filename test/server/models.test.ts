/** The contract of GraphQL for models: names, Node and Receipt, ids over models, narrowing, what is set from the token, and the limits of documents. */
import { randomUUID } from 'node:crypto'
import { type GraphQLObjectType, isObjectType, printSchema } from 'graphql'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeSchema } from '../../src/graphql/schema.ts'
import { listModels, modelsOf } from '../../src/model/define.ts'
import type { Json } from '../harness/client.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { type ModelServer, serveModels } from '../harness/model-server.ts'
import { column, datamodelOf, table } from '../harness/models.ts'
import { openStream } from '../harness/ways.ts'

const ann = { sub: 'ann', tenant: 'red' }
const bob = { sub: 'bob', tenant: 'red' }
const post = randomUUID()

let server: ModelServer
beforeAll(async () => {
  server = await serveModels()
})
afterAll(() => server?.close())

async function ask(claims: object, query: string, variables = {}): Promise<Json> {
  const answers: Json[] = []
  for (const url of [server.plain, server.fast, server.fast, server.fast]) {
    answers.push((await (await server.as({ ...claims }, url)).graphql(query, variables)).body)
  }
  for (const answer of answers) expect(answer).toEqual(answers[0])
  return answers[0]
}

async function saveComment(claims: object, input: object, rest = ''): Promise<Json> {
  const query = `mutation ($input: CommentInput!) { saveComment(input: $input, waitMs: 20000${rest}) { saveId status duplicate comment { id author body } } }`
  return (await (await server.as({ ...claims })).graphql(query, { input })).body
}

async function saved(claims: object, input: object): Promise<string> {
  const answer = await saveComment(claims, input)
  expect(answer.data?.saveComment?.status, JSON.stringify(answer)).toBe('SAVED')
  return answer.data.saveComment.saveId
}

const fieldsOf = (name: string) => Object.keys((server.schema.getType(name) as GraphQLObjectType).getFields())
const typeOf = (root: string, field: string) =>
  String((server.schema.getType(root) as GraphQLObjectType).getFields()[field]?.type)
const argsOf = (root: string, field: string) =>
  (server.schema.getType(root) as GraphQLObjectType)
    .getFields()
    [field]!.args.map(({ name, type }) => `${name}: ${type}`)

describe('The schema of a model', () => {
  test('has the names of the contract', () => {
    expect(typeOf('Query', 'comment')).toBe('Comment')
    expect(argsOf('Query', 'comment')).toEqual(['id: ID!'])
    expect(typeOf('Query', 'comments')).toBe('CommentConnection')
    expect(argsOf('Query', 'comments')).toEqual([
      'after: String',
      'author: String',
      'before: String',
      'first: Int',
      'last: Int',
      'postId: String',
    ])
    expect(typeOf('Mutation', 'saveComment')).toBe('CommentReceipt')
    expect(argsOf('Mutation', 'saveComment')).toEqual(['id: ID', 'input: CommentInput!', 'waitMs: Int'])
    expect(typeOf('Mutation', 'saveComments')).toBe('[CommentReceipt!]')
    expect(argsOf('Mutation', 'saveComments')).toEqual(['inputs: [CommentInput!]!'])
    expect(typeOf('Subscription', 'commentSaved')).toBe('CommentSaved!')
    expect(argsOf('Subscription', 'commentSaved')).toEqual(['after: String', 'author: String', 'postId: String'])
    expect(fieldsOf('CommentInput')).toEqual(['body', 'id', 'mood', 'postId', 'rating'])
    expect(fieldsOf('CommentSaved')).toEqual(['comment', 'cursor'])
    expect(fieldsOf('CommentReceipt').filter((field) => !fieldsOf('Receipt').includes(field))).toEqual(['comment'])
    expect(argsOf('Mutation', 'save')).toEqual(['content: String!', 'id: ID', 'waitMs: Int'])
    expect(argsOf('Mutation', 'saveMany')).toEqual(['inputs: [ContentInput!]!'])
    expect(argsOf('Subscription', 'saved')).toEqual(['after: String'])
  })

  test('has nullable root fields, so that one that fails does not take its neighbours along (FE1)', async () => {
    for (const root of ['Query', 'Mutation']) {
      for (const field of fieldsOf(root)) expect(`${field}: ${typeOf(root, field)}`).not.toMatch(/!$/)
    }
    const id = await saved(ann, { postId: post, body: 'neighbour' })
    const answer = await ask(ann, `{ comment(id: "${id}") { body } contents(first: -1) { edges { cursor } } }`)
    expect(answer.data).toEqual({ comment: { body: 'neighbour' }, contents: null })
    expect(answer.errors).toHaveLength(1)
    // The id of the save that was accepted is not lost, and the status says so (FE2).
    const two = 'mutation { a: save(content: "good") { saveId } b: save(content: "bad", id: "bad") { saveId } }'
    const none = 'mutation { a: save(content: "bad", id: "x") { saveId } b: save(content: "bad", id: "y") { saveId } }'
    for (const url of [server.plain, server.fast, server.fast, server.fast]) {
      const client = await server.as(ann, url)
      const some = await client.graphql(two)
      expect(some.data).toEqual({ a: { saveId: expect.any(String) }, b: null })
      expect({ status: some.status, errors: some.errors.length }).toEqual({ status: 200, errors: 1 })
      const all = await client.graphql(none)
      expect({ status: all.status, data: all.data }).toEqual({ status: 400, data: { a: null, b: null } })
    }
  })

  test('has Node on rows only, and no field id on a receipt', () => {
    const rows = ['Comment', 'Content', 'Every', 'Memo']
    const node = server.schema.getType('Node')
    expect(
      server.schema
        .getPossibleTypes(node as never)
        .map(({ name }) => name)
        .sort(),
    ).toEqual(rows)
    const withId = Object.values(server.schema.getTypeMap()).filter(
      (type) => isObjectType(type) && !type.name.startsWith('__') && 'id' in type.getFields(),
    )
    expect(withId.map(({ name }) => name).sort()).toEqual(rows)
    const receipts = server.schema.getPossibleTypes(server.schema.getType('Receipt') as never)
    expect(receipts.map(({ name }) => name).sort()).toEqual(rows.map((name) => `${name}Receipt`))
  })
})

describe('node and receipt', () => {
  test('return a row and a receipt of whichever model has the id', async () => {
    const content = randomUUID()
    const mutation = `mutation { save(content: "a content", id: "${content}", waitMs: 20000) { status } }`
    expect((await (await server.as(ann)).graphql(mutation)).data).toEqual({ save: { status: 'SAVED' } })
    const comment = await saved(ann, { postId: post, body: 'a comment' })
    const node = (id: string) =>
      ask(ann, `{ node(id: "${id}") { __typename id ... on Content { content } ... on Comment { body mood } } }`)
    expect(await node(content.toUpperCase())).toEqual({
      data: { node: { __typename: 'Content', id: content, content: 'a content' } },
    })
    expect(await node(comment)).toEqual({
      data: { node: { __typename: 'Comment', id: comment, body: 'a comment', mood: 'HAPPY' } },
    })
    expect(await node(randomUUID())).toEqual({ data: { node: null } })
    expect((await node('nonsense')).errors[0].extensions.code).toBe('BAD_USER_INPUT')
    const receipt = (id: string) =>
      ask(
        ann,
        `{ receipt(id: "${id}") { __typename saveId model status conflicts failure { code } ... on ContentReceipt { content { content } } ... on CommentReceipt { comment { body } } } }`,
      )
    const rest = { status: 'SAVED', conflicts: 0, failure: null }
    expect(await receipt(content)).toEqual({
      data: {
        receipt: {
          ...{ __typename: 'ContentReceipt', saveId: content, model: 'Content', ...rest },
          content: { content: 'a content' },
        },
      },
    })
    expect(await receipt(comment)).toEqual({
      data: {
        receipt: {
          ...{ __typename: 'CommentReceipt', saveId: comment, model: 'Comment', ...rest },
          comment: { body: 'a comment' },
        },
      },
    })
    expect(await receipt(randomUUID())).toEqual({ data: { receipt: null } })
  })

  test('receipt(id) over SSE and WebSocket ends with the row of its model', async () => {
    const id = randomUUID()
    const query = `subscription { receipt(id: "${id}") { __typename status ... on CommentReceipt { comment { body } } } }`
    await saved(ann, { postId: post, body: 'followed', id })
    const authorization = `Bearer ${await server.token(ann)}`
    for (const wire of ['POST', 'GET', 'WebSocket'] as const) {
      const transport = { wire, accept: 'text/event-stream', extra: {} }
      const stream = await openStream(server.fast, { query, variables: {} }, transport, { authorization })
      await holds(() => expect(stream.completed()).toBe(true))
      const last = { __typename: 'CommentReceipt', status: 'SAVED', comment: { body: 'followed' } }
      expect(stream.results().at(-1)).toEqual({ data: last })
      stream.close()
    }
  })

  test('need the scope read, and the row of a receipt, too', async () => {
    const writer = { ...ann, scope: 'write' }
    const id = randomUUID()
    expect((await ask(writer, `{ node(id: "${id}") { id } }`)).errors[0].message).toContain('"read" (for Query.node)')
    expect((await ask(writer, `{ receipt(id: "${id}") { saveId } }`)).errors[0].message).toContain('"read"')
    const mutation = (fields: string) =>
      `mutation { saveComment(input: { postId: "${post}", body: "x" }, id: "${id}") { ${fields} } }`
    expect((await ask(writer, mutation('comment { id }'))).errors[0].message).toContain(
      '"read" (for CommentReceipt.comment)',
    )
    expect((await ask(writer, mutation('saveId model'))).data.saveComment).toEqual({ saveId: id, model: 'Comment' })
  })

  test('an id that another model has is refused with ID_CONFLICT', async () => {
    const id = await saved(ann, { postId: post, body: 'first' })
    const answer = await ask(ann, `mutation { save(content: "second", id: "${id}") { saveId } }`)
    expect(answer.data).toEqual({ save: null })
    expect(answer.errors[0].extensions.code).toBe('ID_CONFLICT')
  })
})

describe('saveComment', () => {
  test('sets a fromToken column from the token, which a client cannot send', async () => {
    const answer = await saveComment(ann, { postId: post, body: 'mine' })
    expect(answer.data.saveComment.comment).toMatchObject({ author: 'ann', body: 'mine' })
    const forged = await saveComment(ann, { postId: post, body: 'forged', author: 'bob' })
    expect(forged.errors[0].message).toContain('Field "author" is not defined by type "CommentInput"')
  })

  test('takes the id as an argument, in the input, or both, and refuses two that differ', async () => {
    const id = randomUUID()
    const input = { postId: post, body: 'with an id' }
    for (const [given, rest] of [
      [{ ...input, id }, ''],
      [input, `, id: "${id}"`],
      [{ ...input, id: id.toUpperCase() }, `, id: "${id}"`],
      [{ ...input, id: null }, `, id: "${id}"`],
      [{ ...input, id }, ', id: null'],
    ] as const) {
      expect((await saveComment(ann, given, rest)).data.saveComment).toMatchObject({ saveId: id, status: 'SAVED' })
    }
    const differing = await saveComment(ann, { ...input, id }, `, id: "${randomUUID()}"`)
    expect(differing.errors[0]).toMatchObject({
      message: 'id and input.id differ; give one of them',
      extensions: { code: 'BAD_USER_INPUT' },
    })
    const wrong = await saveComment(ann, { ...input, id: 'x' })
    expect(wrong.errors[0].message).toContain('id must be a UUID')
  })

  test('refuses what the rules and the check of the model refuse, by name and limit', async () => {
    for (const [input, message] of [
      [{ rating: 6 }, 'rating of Comment must be at least 1 and at most 5, got 6'],
      [{ rating: 0 }, 'rating of Comment must be at least 1 and at most 5, got 0'],
      [{ body: 'é'.repeat(501) }, 'body of Comment is 1002 bytes of UTF-8; at most 1000 are allowed'],
      [{ postId: 'x'.repeat(37) }, 'postId of Comment is 37 characters long; at most 36 are allowed'],
      [{ body: 'a forbidden word' }, 'Comment: body has a forbidden word'],
    ] as const) {
      const answer = await saveComment(ann, { postId: post, body: 'x', ...input })
      expect(answer.errors[0]).toMatchObject({ message, extensions: { code: 'BAD_USER_INPUT' } })
    }
  })

  test('saveComments takes an id in each input and refuses all where one is wrong, by its place', async () => {
    const query = 'mutation ($inputs: [CommentInput!]!) { saveComments(inputs: $inputs) { saveId model status } }'
    const ids = [randomUUID(), randomUUID()]
    const inputs = ids.map((id) => ({ id, postId: post, body: 'one of two' }))
    const client = await server.as(ann)
    expect((await client.graphql(query, { inputs })).data.saveComments).toEqual(
      ids.map((saveId) => ({ saveId, model: 'Comment', status: 'QUEUED' })),
    )
    const bad = [
      { postId: post, body: 'good' },
      { postId: post, body: 'bad', rating: 9 },
    ]
    expect((await client.graphql(query, { inputs: bad })).errors[0].message).toBe(
      'inputs[1].rating of Comment must be at least 1 and at most 5, got 9',
    )
    const badId = [{ postId: post, body: 'good', id: 'x' }]
    expect((await client.graphql(query, { inputs: badId })).errors[0].message).toContain('inputs[0].id must be a UUID')
  })
})

describe('receipts of several models', () => {
  const selection =
    '{ __typename saveId model status ... on ContentReceipt { content { content } } ... on CommentReceipt { comment { body } } ... on MemoReceipt { memo { text } } }'

  test('are returned and followed together, with the rows that the client may see', async () => {
    const client = await server.as(ann)
    const other = await server.as({ sub: 'eve', tenant: 'blue' })
    const comment = await saved(ann, { postId: post, body: 'a comment' })
    const content = (await client.saveAndWait('a content')).data.save.saveId
    const memos = await Promise.all(
      [client, other].map(async (one) => {
        const input = { topic: 1, text: 'a memo' }
        const query = 'mutation ($input: MemoInput!) { saveMemo(input: $input, waitMs: 20000) { saveId } }'
        return (await one.graphql(query, { input })).data.saveMemo.saveId
      }),
    )
    const ids = [memos[0], comment, randomUUID(), content, memos[1]]
    const row = (saveId: string, model: string, rest: object) => ({
      __typename: `${model}Receipt`,
      ...{ saveId, model, status: 'SAVED', ...rest },
    })
    const expected = [
      row(memos[0], 'Memo', { memo: { text: 'a memo' } }),
      row(comment, 'Comment', { comment: { body: 'a comment' } }),
      null,
      row(content, 'Content', { content: { content: 'a content' } }),
      row(memos[1], 'Memo', { memo: null }),
    ]
    const variables = { ids }
    expect(await ask(ann, `query ($ids: [ID!]!) { receipts(ids: $ids) ${selection} }`, variables)).toEqual({
      data: { receipts: expected },
    })
    const sse = await client.sse(`subscription ($ids: [ID!]!) { receipts(ids: $ids) ${selection} }`, variables)
    await sse.ended
    expect(sse.results).toEqual([{ data: { receipts: expected.filter((receipt) => receipt !== null) } }])
    expect(sse.frames.at(-1)?.event).toBe('complete')
  })
})

describe('A list and a subscription of a model', () => {
  const list = (args: string) =>
    `{ comments(${args}) { edges { node { body } } pageInfo { hasNextPage hasPreviousPage } } }`
  const bodies = (answer: Json) => answer.data.comments.edges.map(({ node }: Json) => node.body)

  test('are narrowed to the columns of one of its sets, forwards and backwards', async () => {
    const one = randomUUID()
    const other = randomUUID()
    for (const [claims, postId, body] of [
      [ann, one, 'ann 1'],
      [bob, one, 'bob 1'],
      [ann, other, 'ann 2'],
      [ann, one, 'ann 3'],
    ] as const)
      await saved(claims, { postId, body })
    expect(bodies(await ask(ann, list(`postId: "${one}"`)))).toEqual(['ann 3', 'bob 1', 'ann 1'])
    expect(bodies(await ask(ann, list(`postId: "${one}", author: "ann"`)))).toEqual(['ann 3', 'ann 1'])
    expect(bodies(await ask(ann, list(`postId: "${other}", author: null`)))).toEqual(['ann 2'])
    expect(bodies(await ask(ann, list(`postId: "${one}", last: 2`)))).toEqual(['bob 1', 'ann 1'])
    const first = await ask(ann, `{ comments(postId: "${one}", first: 1) { edges { cursor } } }`)
    const after = `postId: "${one}", first: 1, after: "${first.data.comments.edges[0].cursor}"`
    expect(bodies(await ask(ann, list(after)))).toEqual(['bob 1'])
    expect(bodies(await ask(ann, list(`postId: "${randomUUID()}"`)))).toEqual([])
  })

  test('refuse an argument that the column cannot hold', async () => {
    const answer = await ask(ann, list(`postId: "${'x'.repeat(40)}"`))
    expect(answer.errors[0]).toMatchObject({
      message: 'postId of Comment is 40 characters long; at most 36 are allowed',
      extensions: { code: 'BAD_USER_INPUT' },
    })
  })

  test('a save makes only the pages stale that its row belongs to', async () => {
    const posts = [randomUUID(), randomUUID()]
    for (const postId of posts) await saved(ann, { postId, body: 'first' })
    const reads = async (postId: string) => {
      const before = server.store.pages
      for (let i = 0; i < 3; i++) await (await server.as(ann)).graphql(list(`postId: "${postId}"`))
      return server.store.pages - before
    }
    expect(await reads(posts[0]!)).toBe(1)
    expect(await reads(posts[1]!)).toBe(1)
    await saved(ann, { postId: posts[0]!, body: 'second' })
    expect(await reads(posts[1]!)).toBe(0)
    expect(await reads(posts[0]!)).toBe(1)
    const content = 'mutation { save(content: "of another model", waitMs: 20000) { status } }'
    expect((await (await server.as(ann)).graphql(content)).data.save.status).toBe('SAVED')
    expect(await reads(posts[0]!)).toBe(0)
  })

  test('two lists of a document are cached until either changes', async () => {
    const postId = randomUUID()
    await saved(ann, { postId, body: 'of two lists' })
    const query = `{ comments(postId: "${postId}") { edges { node { body } } } contents(first: 1) { edges { node { content } } } }`
    const expected = async (content: string, body: string) =>
      expect((await ask(ann, query)).data).toEqual({
        comments: { edges: [{ node: { body } }] },
        contents: { edges: [{ node: { content } }] },
      })
    for (const content of ['one', 'two']) {
      const save = `mutation { save(content: "${content}", waitMs: 20000) { status } }`
      expect((await (await server.as(ann)).graphql(save)).data.save.status).toBe('SAVED')
      await expected(content, 'of two lists')
    }
  })

  test.each(['POST', 'GET', 'WebSocket'] as const)(
    'commentSaved has the rows of its model and narrowing, by %s',
    async (wire) => {
      const postId = randomUUID()
      const authorization = `Bearer ${await server.token(ann)}`
      const open = (query: string, variables = {}) =>
        openStream(
          server.fast,
          { query, variables },
          { wire, accept: 'text/event-stream', extra: {} },
          { authorization },
        )
      const all = await open('subscription { commentSaved { cursor comment { body } } }')
      const narrowed = await open('subscription ($p: String) { commentSaved(postId: $p) { comment { body } } }', {
        p: postId,
      })
      const other = await open('subscription ($p: String) { commentSaved(postId: $p) { comment { body } } }', {
        p: randomUUID(),
      })
      const contents = await open('subscription { saved { content { content } } }')
      await saved(ann, { postId, body: 'one' })
      await saved(ann, { postId: randomUUID(), body: 'two' })
      const save = 'mutation { save(content: "a content", waitMs: 20000) { status } }'
      await (await server.as(ann)).graphql(save)
      await holds(() => expect(contents.results()).toEqual([{ data: { content: { content: 'a content' } } }]))
      expect(all.results().map(({ data }) => data.comment.body)).toEqual(['one', 'two'])
      expect(narrowed.results().map(({ data }) => data.comment.body)).toEqual(['one'])
      expect(other.results()).toEqual([])
      // A stream that resumes goes on with its own rows.
      const after = all.results()[0].data.cursor
      const resumed = await open('subscription ($a: String) { commentSaved(after: $a) { comment { body } } }', {
        a: after,
      })
      expect((await eventually(() => resumed.results()[0])).data).toEqual({ comment: { body: 'two' } })
      for (const stream of [all, narrowed, other, contents, resumed]) stream.close()
    },
  )
})

describe('Ten models', () => {
  const names = Array.from({ length: 10 }, (_, i) => `Model${'ABCDEFGHIJ'[i]}`)
  const tables = Object.fromEntries(names.map((name) => [name, table(name, [column('text', 'String')])]))
  // biome-ignore lint/suspicious/noExplicitAny: the rows of tables that no client was generated for.
  const define = modelsOf<any, any>(tables)
  const models = listModels(names.map((name) => define(name, {})))
  let ten: ModelServer
  beforeAll(async () => {
    ten = await serveModels({ models, datamodel: datamodelOf(tables) })
  })
  afterAll(() => ten?.close())

  test('fit into the limits of a document: node, receipt and a page of each', async () => {
    const client = await ten.as(ann)
    const fragments = names.map((name) => `... on ${name} { text createdAt savedAt }`).join(' ')
    const node = await client.graphql(`{ node(id: "${post}") { __typename id ${fragments} } }`)
    expect(node.body).toEqual({ data: { node: null } })
    const rows = names.map((name) => `... on ${name}Receipt { model${name.at(-1)} { id text } }`).join(' ')
    const receipt = await client.graphql(`{ receipt(id: "${post}") { saveId status ${rows} } }`)
    expect(receipt.body).toEqual({ data: { receipt: null } })
    const lists = [...models.values()].map((model) => `${model.names.many}(first: 5) { edges { node { id text } } }`)
    const pages = await client.graphql(`{ ${lists.join(' ')} }`)
    expect(Object.values(pages.data)).toEqual(names.map(() => ({ edges: [] })))
  })

  test('make a schema in less than a second', () => {
    const since = performance.now()
    printSchema(makeSchema(models, { datamodel: datamodelOf(tables) }))
    expect(performance.now() - since).toBeLessThan(1_000)
  })
})
