/** Tests run beside models that were added to this project: a copy of the tree begins without them. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Tree } from './tree.ts'

const added = /^(?:\/\/\/.*\n)*(?:model|enum) (?!Content )(\w+) \{[\s\S]*?^\}\n/gm
const kept = ['content.ts', 'index.ts', 'prisma.ts']
const index = `import { Content } from './content.ts'

export { prisma } from './prisma.ts'
export const models = [Content]
export const url = import.meta.url
`

/** Removes every model but Content: from the Prisma schema, from src/models/, and the migrations that name one. */
export async function removeModels(tree: Tree): Promise<void> {
  const schema = await tree.read('prisma/schema.prisma')
  const names = [...schema.matchAll(added)].map(([, name]) => name)
  if (names.length === 0) return
  await tree.write('prisma/schema.prisma', schema.replace(added, ''))
  for (const file of await readdir(join(tree.path, 'src/models')))
    if (!kept.includes(file)) await tree.remove(`src/models/${file}`)
  await tree.write('src/models/index.ts', index)
  const isOfModel = new RegExp(`[\`"](?:${names.join('|')})[\`"]`)
  for (const database of ['mysql', 'sqlite']) {
    const folder = `prisma/${database}/migrations`
    for (const name of await readdir(join(tree.path, folder)))
      if (/^\d/.test(name) && isOfModel.test(await tree.read(`${folder}/${name}/migration.sql`)))
        await tree.remove(`${folder}/${name}`)
  }
}
