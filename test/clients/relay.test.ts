/**
 * Relay, unchanged: its compiler checks schema.graphql against the specifications of nodes and connections, and its runtime keeps rows and
 * receipts in one store. To Relay, two objects with the same `id` are one object.
 */
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { buildSchema, type GraphQLInterfaceType, type GraphQLObjectType, isObjectType } from 'graphql'
import { createClient, type Client as WsClient } from 'graphql-ws'
import {
  ConnectionHandler,
  commitMutation,
  createOperationDescriptor,
  Environment,
  fetchQuery,
  type GraphQLTaggedNode,
  Network,
  Observable,
  type RecordProxy,
  RecordSource,
  requestSubscription,
  Store,
} from 'relay-runtime'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { boot, type SetUp, type Spillway, setUps } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { saveRow } from './rows.ts'

/** Relay demands that the names begin with the name of their file. */
const documents = [
  `fragment app_content on Content @refetchable(queryName: "appContentRefetchQuery") { content savedAt }`,
  `fragment app_contents on Query
  @argumentDefinitions(first: { type: "Int", defaultValue: 2 }, after: { type: "String" })
  @refetchable(queryName: "appContentsPaginationQuery") {
  contents(first: $first, after: $after) @connection(key: "app_contents") {
    savedCursor
    edges { node { id content ...app_content } }
  }
}`,
  `fragment app_deadLetters on Query
  @argumentDefinitions(last: { type: "Int", defaultValue: 2 }, before: { type: "String" })
  @refetchable(queryName: "appDeadLettersPaginationQuery") {
  deadLetters(last: $last, before: $before, filter: { model: "Content" }) @connection(key: "app_deadLetters") {
    totalCount
    edges { node { saveId model input failure { code message } } }
  }
}`,
  `query appQuery { ...app_contents }`,
  `query appAdminQuery {
  ...app_deadLetters
  queue { depth }
}`,
  `query appLastQuery {
  last: deadLetters(last: 2) { totalCount edges { node { saveId } } pageInfo { hasPreviousPage startCursor } }
}`,
  `query appNodeQuery($id: ID!) { node(id: $id) { __typename id ... on Content { content savedAt } } }`,
  `query appReceiptQuery($id: ID!) {
  receipt(id: $id) { __typename saveId model status conflicts ... on ContentReceipt { content { id content } } }
}`,
  `mutation appSaveMutation($id: ID, $content: String!, $connections: [ID!]!) {
  save(id: $id, content: $content, waitMs: 20000) {
    saveId
    status
    duplicate
    content @prependNode(connections: $connections, edgeTypeName: "ContentEdge") { id content savedAt }
  }
}`,
  `subscription appSavedSubscription($after: String, $connections: [ID!]!) {
  saved(after: $after) {
    cursor
    content @prependNode(connections: $connections, edgeTypeName: "ContentEdge") { id content savedAt }
  }
}`,
]
const source = documents.map((document) => `graphql\`${document}\``).join('\n')

let dir: string
/** What the compiler wrote, by the name of the operation. */
let compiled: (name: string) => GraphQLTaggedNode
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'spillway-relay-'))
  const artifacts = join(dir, 'src', '__generated__')
  await mkdir(artifacts, { recursive: true })
  await cp('schema.graphql', join(dir, 'schema.graphql'))
  await writeFile(join(dir, 'src', 'app.js'), source)
  const config = { src: './src', schema: './schema.graphql', language: 'javascript', artifactDirectory: artifacts }
  await writeFile(join(dir, 'relay.config.json'), JSON.stringify({ ...config, eagerEsModules: false }))
  await promisify(execFile)(process.execPath, [resolve('node_modules/relay-compiler/cli.js')], { cwd: dir })
  const require = createRequire(join(artifacts, 'index.cjs'))
  compiled = (name) => require(`./${name}.graphql.js`)
})
afterAll(() => rm(dir, { recursive: true, force: true }))

test('Of the object types of the schema, nodes alone have an id (FE1)', async () => {
  const schema = buildSchema(await readFile('schema.graphql', 'utf8'))
  const types = Object.values(schema.getTypeMap()).filter(isObjectType)
  const names = (some: GraphQLObjectType[]) => some.map(({ name }) => name)
  const nodes = schema.getPossibleTypes(schema.getType('Node') as GraphQLInterfaceType)
  expect(names(types.filter((type) => 'id' in type.getFields()))).toEqual(names([...nodes]))
})

test('The Relay compiler accepts the schema: nodes, connections in both directions, and receipts', () => {
  for (const name of ['appContentRefetchQuery', 'appContentsPaginationQuery', 'appDeadLettersPaginationQuery'])
    expect(compiled(name)).toMatchObject({ kind: 'Request' })
})

describe.each(setUps)('Relay on %s', (setUp: SetUp) => {
  let system: Spillway
  let ws: WsClient
  let environment: Environment
  beforeAll(async () => {
    system = await boot(setUp, { workers: 1 })
    ws = createClient({ url: `${system.url.replace('http', 'ws')}/graphql`, webSocketImpl: WebSocket })
    for (const content of ['first', 'second', 'third', 'fourth', 'fifth']) await saveRow(system.client, content)
  })
  afterAll(async () => {
    await ws?.dispose()
    await system?.stop()
  })
  beforeEach(() => {
    const network = Network.create(
      async ({ text }, variables) => (await system.client.graphql(text!, variables)).body,
      ({ text }, variables) =>
        Observable.create<Json>((sink) =>
          ws.subscribe<Json>(
            { query: text!, variables },
            { ...sink, next: (result) => sink.next(result as Json), error: (error) => sink.error(error as Error) },
          ),
        ),
    )
    environment = new Environment({ network, store: new Store(new RecordSource()) })
  })

  const request = (name: string) => compiled(name) as Parameters<typeof createOperationDescriptor>[0]
  async function query(name: string, variables: Record<string, unknown> = {}): Promise<Json> {
    environment.retain(createOperationDescriptor(request(name), variables))
    return await fetchQuery(environment, compiled(name), variables, { fetchPolicy: 'network-only' }).toPromise()
  }
  function save(variables: { id?: string; content: string; connections?: string[] }): Promise<Json> {
    return new Promise((onCompleted, onError) =>
      commitMutation(environment, {
        mutation: compiled('appSaveMutation'),
        variables: { connections: [], ...variables },
        onCompleted,
        onError,
      }),
    )
  }
  /** The rows of the connection in the store. */
  function kept(): { id: string; contents: unknown[]; pageInfo: RecordProxy; savedCursor: unknown } {
    let found: ReturnType<typeof kept> | undefined
    environment.commitUpdate((store) => {
      const connection = ConnectionHandler.getConnection(store.getRoot(), 'app_contents')!
      const contents = connection
        .getLinkedRecords('edges')!
        .map((edge) => edge.getLinkedRecord('node')!.getValue('content'))
      const pageInfo = connection.getLinkedRecord('pageInfo')!
      found = { id: connection.getDataID(), contents, pageInfo, savedCursor: connection.getValue('savedCursor') }
    })
    return found!
  }
  const record = (id: string) => environment.getStore().getSource().get(id) as Json

  test('adds the next page to a connection, in the order of the list', async () => {
    await query('appQuery')
    const first = kept()
    expect(first.contents).toHaveLength(2)
    await query('appContentsPaginationQuery', { first: 3, after: first.pageInfo.getValue('endCursor') })
    const all = (await system.client.contents()).map(({ content }) => content)
    expect(kept().contents).toEqual(all.slice(0, 5))
  })

  test('keeps a row and its receipt apart (FE1)', async () => {
    const id = crypto.randomUUID()
    const { save: receipt } = await save({ id, content: 'apart' })
    expect(receipt).toMatchObject({ saveId: id, status: 'SAVED', duplicate: false, content: { id, content: 'apart' } })
    expect(record(id)).toMatchObject({ __typename: 'Content', id, content: 'apart' })
    // The receipt, asked for again, does not replace the row.
    expect((await query('appReceiptQuery', { id })).receipt).toMatchObject({
      __typename: 'ContentReceipt',
      saveId: id,
      model: 'Content',
      status: 'SAVED',
      conflicts: 0,
      content: { id, content: 'apart' },
    })
    expect(record(id)).toMatchObject({ __typename: 'Content', id, content: 'apart' })
    expect((await save({ id, content: 'apart' })).save).toMatchObject({
      duplicate: true,
      content: { content: 'apart' },
    })
  })

  test('refetches a row as a node, and gets null for an id without a row', async () => {
    const id = crypto.randomUUID()
    await save({ id, content: 'a node' })
    expect((await query('appNodeQuery', { id })).node).toMatchObject({ __typename: 'Content', id, content: 'a node' })
    expect(await query('appContentRefetchQuery', { id })).toMatchObject({ node: { __id: id } })
    expect(await query('appNodeQuery', { id: crypto.randomUUID() })).toEqual({ node: null })
  })

  test('follows the list from the savedCursor of its page, and shows a row that was saved in between once', async () => {
    await query('appQuery')
    const { id: connection, savedCursor: after } = kept()
    await saveRow(system.client, 'in between')
    const seen: string[] = []
    const subscription = requestSubscription(environment, {
      subscription: compiled('appSavedSubscription'),
      variables: { after, connections: [connection] },
      onNext: (response) => seen.push((response as Json).saved.content.content),
    })
    await holds(() => expect(seen).toContain('in between'))
    await save({ content: 'from here', connections: [connection] })
    await holds(() => expect(seen).toContain('from here'))
    subscription.dispose()
    for (const content of ['in between', 'from here'])
      expect(kept().contents.filter((each) => each === content)).toEqual([content])
  })

  test('gets the dead letters as a connection, from its end', async () => {
    const data = await query('appAdminQuery')
    expect(data.queue.depth).toEqual(expect.any(Number))
    const { last: letters } = await query('appLastQuery')
    expect(letters).toMatchObject({ totalCount: 0, edges: [], pageInfo: { hasPreviousPage: false, startCursor: null } })
  })
})
