/**
 * Apollo Client, unchanged, with its default normalisation: it stores an object under its type and `id`, merges pages as Relay's, and follows a
 * subscription over WebSocket and over HTTP.
 */
import { ApolloClient, ApolloLink, CombinedGraphQLErrors, gql, HttpLink, InMemoryCache } from '@apollo/client'
import { GraphQLWsLink } from '@apollo/client/link/subscriptions'
import { getMainDefinition, relayStylePagination } from '@apollo/client/utilities'
import { createClient, type Client as WsClient } from 'graphql-ws'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { boot, type SetUp, type Spillway, setUps } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { saveRow } from './rows.ts'

const row = gql`
  fragment Row on Content {
    id
    content
    savedAt
  }
`
const page = gql`
  query Page($first: Int, $after: String) {
    contents(first: $first, after: $after) {
      savedCursor
      edges {
        cursor
        node {
          ...Row
        }
      }
      pageInfo {
        hasNextPage
        endCursor
      }
    }
  }
  ${row}
`
const save = gql`
  mutation Save($id: ID, $content: String!, $waitMs: Int = 20000) {
    save(id: $id, content: $content, waitMs: $waitMs) {
      saveId
      status
      duplicate
      content {
        ...Row
      }
    }
  }
  ${row}
`
const saved = gql`
  subscription Saved($after: String) {
    saved(after: $after) {
      cursor
      content {
        ...Row
      }
    }
  }
  ${row}
`

describe.each(setUps)('Apollo Client on %s', (setUp: SetUp) => {
  let system: Spillway
  let ws: WsClient
  let apollo: ApolloClient
  beforeAll(async () => {
    system = await boot(setUp, { workers: 1 })
    ws = createClient({ url: `${system.url.replace('http', 'ws')}/graphql`, webSocketImpl: WebSocket })
    for (const content of ['first', 'second', 'third', 'fourth', 'fifth']) await saveRow(system.client, content)
  })
  afterAll(async () => {
    apollo?.stop()
    await ws?.dispose()
    await system?.stop()
  })
  beforeEach(() => {
    apollo = new ApolloClient({
      link: ApolloLink.split(
        ({ query }) => (getMainDefinition(query) as { operation?: string }).operation === 'subscription',
        new GraphQLWsLink(ws),
        new HttpLink({ uri: `${system.url}/graphql` }),
      ),
      cache: new InMemoryCache({
        possibleTypes: { Node: ['Content'], Receipt: ['ContentReceipt'] },
        typePolicies: { Query: { fields: { contents: relayStylePagination() } } },
      }),
    })
  })

  const contentsOf = (data: Json) => data.contents.edges.map(({ node }: Json) => node.content)
  /** What the cache holds of a row. */
  const kept = (id: string) => (apollo.cache.extract() as Json)[`Content:${id}`]

  test('merges the next page into the first, in the order of the list', async () => {
    const watched = apollo.watchQuery<Json>({ query: page, variables: { first: 2 } })
    const subscription = watched.subscribe(() => {})
    await holds(() => expect(contentsOf(watched.getCurrentResult().data)).toHaveLength(2))
    const { endCursor } = watched.getCurrentResult().data.contents.pageInfo
    await watched.fetchMore({ variables: { first: 3, after: endCursor } })
    const all = (await system.client.contents()).map(({ content }) => content)
    expect(contentsOf(watched.getCurrentResult().data)).toEqual(all.slice(0, 5))
    subscription.unsubscribe()
  })

  test('keeps a row and its receipt apart (FE1)', async () => {
    const id = crypto.randomUUID()
    const { data } = await apollo.mutate<Json>({ mutation: save, variables: { id, content: 'apart' } })
    expect(data!.save).toMatchObject({ saveId: id, status: 'SAVED', duplicate: false, content: { id } })
    expect(kept(id)).toMatchObject({ __typename: 'Content', content: 'apart' })
    const receipt = gql`
      query ($id: ID!) {
        receipt(id: $id) { saveId status ... on ContentReceipt { content { ...Row } } }
        node(id: $id) { ...Row }
      }
      ${row}
    `
    const read = await apollo.query<Json>({ query: receipt, variables: { id } })
    expect(read.data!.receipt).toMatchObject({ saveId: id, content: { content: 'apart' } })
    expect(read.data!.node).toMatchObject({ id, content: 'apart' })
    expect(Object.keys(apollo.cache.extract() as Json).filter((key) => key.includes(id))).toEqual([`Content:${id}`])
  })

  test('shows the page and every row that is saved after it, from its savedCursor', async () => {
    const watched = apollo.watchQuery<Json>({ query: page, variables: { first: 2 } })
    const subscription = watched.subscribe(() => {})
    const after = await eventually(() => (watched.getCurrentResult().data as Json | undefined)?.contents?.savedCursor)
    await saveRow(system.client, 'in between')
    const stop = watched.subscribeToMore<Json>({
      document: saved,
      variables: { after },
      updateQuery: (previous: Json, { subscriptionData }: Json) => {
        const node = subscriptionData.data.saved.content
        const { contents } = previous
        if (contents.edges.some((edge: Json) => edge.node.id === node.id)) return previous
        const edge = { __typename: 'ContentEdge', cursor: '', node }
        return { ...previous, contents: { ...contents, edges: [edge, ...contents.edges] } }
      },
    })
    await holds(() =>
      expect(kept((watched.getCurrentResult().data as Json).contents.edges[0].node.id)).toMatchObject({
        content: 'in between',
      }),
    )
    await apollo.mutate<Json>({ mutation: save, variables: { content: 'from here' } })
    await holds(() =>
      expect(Object.values(apollo.cache.extract() as Json).map((entry) => (entry as Json).content)).toContain(
        'from here',
      ),
    )
    stop()
    subscription.unsubscribe()
  })

  test('follows a subscription over HttpLink as a multipart response, resumes it, and gets its errors by their codes', async () => {
    const overHttp = new ApolloClient({
      link: new HttpLink({ uri: `${system.url}/graphql` }),
      cache: new InMemoryCache(),
    })
    const follow = (variables: Record<string, unknown>) => {
      const got: Json[] = []
      let ended = false
      const subscription = overHttp.subscribe<Json>({ query: saved, variables }).subscribe({
        next: (result) => got.push(result),
        complete: () => {
          ended = true
        },
      })
      return { got, ended: () => ended, stop: () => subscription.unsubscribe() }
    }
    const contents = ['over multipart', 'and more "🙂"\r\n--graphql--']
    const after = (await apollo.query<Json>({ query: page, variables: { first: 1 } })).data!.contents.savedCursor
    const first = follow({ after })
    for (const content of contents) await saveRow(system.client, content)
    const contentsOf = (got: Json[]) => got.map(({ data }) => data.saved.content.content)
    await holds(() => expect(contentsOf(first.got)).toEqual(contents))
    first.stop()
    const back = follow({ after: first.got[0].data.saved.cursor })
    await holds(() => expect(contentsOf(back.got)).toEqual(contents.slice(1)))
    back.stop()
    const wrong = follow({ after: 'nonsense' })
    await holds(() => expect([wrong.got.length, wrong.ended()]).toEqual([1, true]))
    const { error } = wrong.got[0]
    expect(CombinedGraphQLErrors.is(error) && error.errors[0]!.extensions?.code).toBe('BAD_USER_INPUT')
    overHttp.stop()
  })

  test('keeps the result of a mutation beside one that fails (FE2)', async () => {
    const two = gql`
      mutation {
        good: save(content: "good", waitMs: 20000) { saveId status }
        bad: save(id: "bad", content: "x") { saveId }
      }
    `
    const { data, error } = await apollo.mutate<Json>({ mutation: two, errorPolicy: 'all' })
    expect(data).toEqual({ good: expect.objectContaining({ status: 'SAVED', saveId: expect.any(String) }), bad: null })
    expect(CombinedGraphQLErrors.is(error) && error.errors[0]).toMatchObject({
      path: ['bad'],
      extensions: { code: 'BAD_USER_INPUT' },
    })
  })

  test('gets the message of an error, not a status (FE3)', async () => {
    const failed = apollo.mutate<Json>({ mutation: save, variables: { id: 'bad', content: 'x' } })
    await expect(failed).rejects.toSatisfy(
      (error) => CombinedGraphQLErrors.is(error) && error.errors[0]!.extensions?.code === 'BAD_USER_INPUT',
    )
  })
})
