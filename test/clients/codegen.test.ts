/** graphql-codegen, unchanged: the types that it makes of schema.graphql compile, and say what may be null. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { codegen } from '@graphql-codegen/core'
import * as typescript from '@graphql-codegen/typescript'
import * as operations from '@graphql-codegen/typescript-operations'
import { parse } from 'graphql'
import { expect, test } from 'vitest'

const documents = `
  query Page($after: String) {
    contents(first: 10, after: $after) { edges { cursor node { id content createdAt savedAt } } pageInfo { endCursor hasNextPage } }
  }
  query Node($id: ID!) { node(id: $id) { __typename id ... on Content { content } } }
  query Receipt($id: ID!) { receipt(id: $id) { __typename saveId model status conflicts ... on ContentReceipt { content { content } } } }
  query Letters { deadLetters(last: 10) { totalCount edges { node { saveId input failure { code } } } } }
  mutation Save($content: String!) { save(content: $content, waitMs: 1000) { saveId status duplicate acceptedAt content { savedAt } } }
  mutation Retry($saveIds: [ID!]) { retryDeadLetters(ids: $saveIds, dryRun: true) { count saveIds } }
  subscription Saved($after: String) { saved(after: $after) { cursor content { id content } } }
`

const use = `
import type { LettersQuery, NodeQuery, PageQuery, ReceiptQuery, RetryMutation, SavedSubscription, SaveMutation } from './generated.ts'

export function rows({ contents }: PageQuery): { id: string; content: string; savedAt: string }[] {
  return contents?.edges.map(({ node }) => node) ?? []
}
export function cursor({ contents }: PageQuery): string | null | undefined {
  return contents?.pageInfo.endCursor
}
export function text({ node }: NodeQuery): string | undefined {
  return node?.__typename === 'Content' ? node.content : undefined
}
export function row({ receipt }: ReceiptQuery): string | undefined {
  return receipt?.__typename === 'ContentReceipt' ? receipt.content?.content : undefined
}
export function saved({ save }: SaveMutation): [string, string | undefined] | undefined {
  return save ? [save.saveId, save.content?.savedAt] : undefined
}
export function letters({ deadLetters }: LettersQuery): [number, unknown[]] | undefined {
  return deadLetters ? [deadLetters.totalCount, deadLetters.edges.map(({ node }) => node.input)] : undefined
}
export function retried({ retryDeadLetters }: RetryMutation): string[] {
  return retryDeadLetters?.saveIds ?? []
}
export function event({ saved }: SavedSubscription): string {
  return saved.cursor + saved.content.content
}
// @ts-expect-error A root field may be null: another one's error must not take it along.
export const wrong = ({ contents }: PageQuery) => contents.edges
`

test('graphql-codegen makes types of the schema that compile and say what may be null (FE2, FE7)', async () => {
  const schema = parse(await readFile('schema.graphql', 'utf8'))
  const scalars = {
    BigInt: 'string',
    Bytes: 'string',
    DateTime: 'string',
    Decimal: 'string',
    ID: 'string',
    JSON: 'unknown',
  }
  const dir = await mkdtemp(join(tmpdir(), 'spillway-codegen-'))
  try {
    const options = { schema, pluginMap: { typescript, operations }, config: { scalars, strictScalars: true } }
    const document = { document: parse(documents), location: 'app.graphql' }
    const types = await codegen({ ...options, filename: 'schema.ts', plugins: [{ typescript: {} }], documents: [] })
    const generated = await codegen({
      ...options,
      filename: 'generated.ts',
      plugins: [{ operations: {} }],
      documents: [document],
    })
    await writeFile(join(dir, 'schema.ts'), types)
    await writeFile(join(dir, 'generated.ts'), generated)
    await writeFile(join(dir, 'use.ts'), use)
    const compilerOptions = { strict: true, noEmit: true, target: 'es2024', module: 'nodenext', types: [] }
    const config = { compilerOptions: { ...compilerOptions, allowImportingTsExtensions: true }, include: ['*.ts'] }
    await writeFile(join(dir, 'tsconfig.json'), JSON.stringify(config))
    const compile = promisify(execFile)(process.execPath, [resolve('node_modules/typescript/bin/tsc'), '-p', dir])
    expect(await compile.catch(({ stdout }) => ({ stdout }))).toMatchObject({ stdout: '' })
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})
