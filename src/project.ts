/** The models of the project that is run: see prisma/generator/project.ts. */
import { existsSync } from 'node:fs'
import { isPackage, project } from '../prisma/generator/project.ts'
import { ModelError } from './model/define.ts'
import type { Given } from './start.ts'

const path = isPackage ? 'models/index.ts' : 'src/models/index.ts'

export async function loadModels(): Promise<Given> {
  const modelsUrl = new URL(path, project)
  if (!existsSync(modelsUrl)) {
    throw new ModelError(
      `There is no ${path} in this folder: run it in the folder of a project; "npx spillway init FOLDER" makes one`,
    )
  }
  return await import(modelsUrl.href)
}
