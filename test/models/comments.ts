/** A copy of the tree with the models of examples/comments, and others. */
import { readFile } from 'node:fs/promises'
import { addToIndex, copyTree, type Tree } from '../harness/tree.ts'

export const example = (file: string) => readFile(new URL(`../../examples/comments/${file}`, import.meta.url), 'utf8')

interface More {
  /** What follows in the Prisma schema. */
  schema?: string
  /** Sources of files in src/models/, by the model's name. */
  models?: Readonly<Record<string, string>>
}

export async function treeWithComments({ schema = '', models = {} }: More = {}): Promise<Tree> {
  const tree = await copyTree(`\n${await example('schema.prisma')}${schema}`)
  for (const name of ['post', 'comment']) await tree.write(`src/models/${name}.ts`, await example(`${name}.ts`))
  for (const [name, source] of Object.entries(models)) await tree.write(`src/models/${name.toLowerCase()}.ts`, source)
  await addToIndex(tree, 'Post', 'Comment', ...Object.keys(models))
  await tree.node(['src/commands/migration.ts', 'comments'])
  return tree
}
