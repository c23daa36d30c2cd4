/**
 * The bundle: the program and its dependencies in some seventy files in place of more than a thousand. A start that loads it takes half of the
 * processor time. `npm run bundle` writes it (src/commands/bundle.ts). It is used only if it was made of the sources as they are now, so that
 * a changed file never has to be built.
 */
import { readFileSync, statSync } from 'node:fs'
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'

const root = new URL('../', import.meta.url)

export const bundle = {
  /** Of the checkout; a copy of it makes its own. */
  root: root.href,
  folder: new URL('.bundle/', root),
}

/** `manifest.json` of the bundle. */
export interface BundleManifest {
  root: string
  /** What the bundle was made of, by path under the root: `stampOf`. */
  sources: Record<string, string>
  /** Of the bundle. */
  files: string[]
}

export function stampOf(path: string): string {
  const { size, mtimeMs } = statSync(new URL(path, root))
  return `${size} ${mtimeMs}`
}

/** The URL of src/program.ts, or of its equal in the bundle. */
export function programUrl(env: NodeJS.ProcessEnv): string {
  const sources = new URL('./program.ts', import.meta.url).href
  // In the package, every file is JavaScript.
  if (import.meta.url.endsWith('.js')) return sources.replace(/\.ts$/, '.js')
  if (loadsMore(env)) return sources
  try {
    const manifest: BundleManifest = JSON.parse(readFileSync(new URL('manifest.json', bundle.folder), 'utf8'))
    const isCurrent =
      manifest.root === bundle.root &&
      Object.entries(manifest.sources).every(([path, stamp]) => stampOf(path) === stamp)
    if (!isCurrent) return sources
    // Node keeps what it compiled, where it may write. NODE_COMPILE_CACHE and NODE_DISABLE_COMPILE_CACHE have precedence.
    enableCompileCache(fileURLToPath(new URL('compiled/', bundle.folder)))
    return new URL('program.js', bundle.folder).href
  } catch {
    // There is none, because optional dependencies were left out; or a source is gone.
    return sources
  }
}

/** Whether a module is preloaded, which may patch others by their names (those of OpenTelemetry do), or Node watches the sources. */
function loadsMore(env: NodeJS.ProcessEnv): boolean {
  const args = [...process.execArgv, ...(env.NODE_OPTIONS ?? '').split(' ')]
  return (
    args.some((arg) => /^(--import|--require|-r|--loader|--experimental-loader)\b/.test(arg)) ||
    'WATCH_REPORT_DEPENDENCIES' in env
  )
}
