/**
 * Prisma's clients import their query compiler as a module that holds it as Base64, which takes ten times as long to load as the bytes
 * themselves, in each thread of each process. This puts the bytes beside a generated client, which then reads them.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const importOfBase64 = /const \{ wasm \} = await import\("([^"]+)"\)\s+return await decodeBase64AsWasm\(wasm\)/

/** `folder`: of the generated client. */
export async function useQueryCompilerFile(folder: string): Promise<void> {
  const path = join(folder, 'internal/class.ts')
  const text = readFileSync(path, 'utf8')
  const [statements, name] = importOfBase64.exec(text) ?? []
  if (!statements || !name)
    throw new Error(`Prisma's client loads its query compiler in another way: see prisma/generator/query-compiler.ts`)
  const { wasm } = await import(pathToFileURL(createRequire(path).resolve(name)).href)
  writeFileSync(join(folder, 'internal/query_compiler.wasm'), Buffer.from(wasm, 'base64'))
  const read = `const { readFile } = await import("node:fs/promises")
    return new WebAssembly.Module(await readFile(new URL("query_compiler.wasm", import.meta.url)))`
  writeFileSync(path, text.replace(statements, read))
}
