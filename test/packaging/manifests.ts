/** Kubernetes' manifests of this project, and what their schemas have against them. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { root } from '../harness/imports.ts'

// biome-ignore lint/suspicious/noExplicitAny: the schemas say what it is.
export type Manifest = Record<string, any>

export const manifestsOf = (yaml: string): Manifest[] =>
  parseAllDocuments(yaml, { uniqueKeys: true }).map((document) => {
    expect(document.errors).toEqual([])
    return document.toJS()
  })

/** Where the types and schemas of an API are; a new one is to be looked up and added. */
const packages: Record<string, string> = {
  v1: 'kubernetes-models/v1',
  'apps/v1': 'kubernetes-models/apps/v1',
  'batch/v1': 'kubernetes-models/batch/v1',
  'autoscaling/v2': 'kubernetes-models/autoscaling/v2',
  'networking.k8s.io/v1': 'kubernetes-models/networking.k8s.io/v1',
  'policy/v1': 'kubernetes-models/policy/v1',
  'keda.sh/v1alpha1': '@kubernetes-models/keda/keda.sh/v1alpha1',
}

/** What the schema has against it; nothing when it is content. */
export async function problemOf(manifest: Manifest): Promise<string | undefined> {
  const path = packages[manifest.apiVersion]
  if (!path) return `there are no schemas for ${manifest.apiVersion}`
  const Model = (await import(path))[manifest.kind]
  if (!Model) return `${manifest.apiVersion} has no ${manifest.kind}`
  try {
    new Model(manifest).validate()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/** What the compiler has against these manifests, written down as literals of their types: unknown keys above all. */
export function typeErrors(list: readonly Manifest[]): string {
  const lines = list.map(({ apiVersion, kind, ...rest }, i) => {
    const type = `import('${packages[apiVersion]}').I${kind}`
    return `export const m${i}: ${type} = ${JSON.stringify({ apiVersion, kind, ...rest })}`
  })
  const typesDir = mkdtempSync(join(root, 'node_modules/.manifests-'))
  writeFileSync(join(typesDir, 'manifests.ts'), lines.join('\n'))
  const settings = ['--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext']
  try {
    const tsc = join(root, 'node_modules/.bin/tsc')
    execFileSync(tsc, [...settings, join(typesDir, 'manifests.ts')], {
      encoding: 'utf8',
    })
    return ''
  } catch (error) {
    return (error as { stdout: string }).stdout
  } finally {
    rmSync(typesDir, { recursive: true })
  }
}
