/** Bundles a file of this project for a browser, as a page's own build does. */
import { join } from 'node:path'
import { build, type Rolldown } from 'vite'
import { root } from '../harness/imports.ts'

export async function bundle(file: string, external: string[] = []): Promise<string> {
  const result = (await build({
    configFile: false,
    logLevel: 'error',
    root: join(root, 'client'),
    define: { 'process.env.NODE_ENV': '"production"' },
    build: {
      write: false,
      target: 'es2022',
      modulePreload: false,
      rolldownOptions: { input: join(root, file), preserveEntrySignatures: 'strict', external },
    },
  })) as Rolldown.RolldownOutput
  return result.output[0].code
}
