/**
 * Fetches the program of a Debian package, and all that it needs down to the C library, into a folder of its own: by an apt-get that has
 * its own state, cache and source list, from the mirror that this machine uses. Nothing of the system is changed. Invariant: a folder
 * that has its final name is complete, because it gets that name last.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { find } from '../harness/binaries.ts'

const run = promisify(execFile)
/** Of one call of apt-get. */
const timeoutMs = 120_000
/** With the keys of all suites of Debian. */
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'

export interface Package {
  name: string
  /** Its path in the package. */
  program: string
  /** Options that lead the program to its files: "$root" stands for the folder of the package. */
  options: string[]
  /** What makes the program print its version. */
  version: string[]
}

/** The path of a script that starts the program with the libraries of its own folder. Rejects with the reason where it cannot be had. */
export async function fetchProgram(wanted: Package): Promise<string> {
  const uid = process.getuid?.() ?? 0
  const folder = join(tmpdir(), `spillway-engines-${uid}-${wanted.name}`)
  const found = await stat(folder).catch(() => undefined)
  if (found && found.uid !== uid) throw new Error(`${folder} belongs to another user; remove it, or set TMPDIR`)
  if (!found) await extract(wanted, folder)
  return join(folder, 'start')
}

async function extract(wanted: Package, folder: string): Promise<void> {
  const uri = await mirror()
  const draft = await mkdtemp(`${folder}-`)
  try {
    const [apt, root, start] = ['apt', 'root', 'start'].map((name) => join(draft, name)) as [string, string, string]
    await mkdir(root)
    for (const file of await download(wanted.name, uri, apt)) await run('dpkg-deb', ['--extract', file, root])
    await rm(apt, { recursive: true })
    await writeFile(start, await startScript(wanted, root), { mode: 0o755 })
    await run(start, wanted.version)
    await rename(draft, folder).catch((error: NodeJS.ErrnoException) => {
      // Another run was faster.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    })
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
}

/** Where this machine gets its own release of Debian from. */
async function mirror(): Promise<string> {
  const release = await readFile('/etc/os-release', 'utf8').catch(() => '')
  if (!/^ID=debian$/m.test(release) || !find('apt-get') || !find('dpkg-deb')) throw new Error('this is no Debian')
  const suites = [/^VERSION_CODENAME=(.*)$/m.exec(release)?.[1], 'stable', 'testing', 'unstable', 'sid']
  const format = '$(SITE) $(RELEASE) $(COMPONENT)'
  const { stdout } = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'])
  const targets = stdout.split('\n').map((line) => line.split(' '))
  const target = targets.find(([, suite, component]) => component === 'main' && suites.includes(suite))
  if (!target) throw new Error('the source lists of this machine name no mirror of Debian')
  return target[0]!
}

/** Downloads a package and all that it needs; returns the files. `apt` is the folder in which apt-get works. */
async function download(name: string, uri: string, apt: string): Promise<string[]> {
  for (const dir of ['state/lists/partial', 'cache/archives/partial', 'log'])
    await mkdir(join(apt, dir), { recursive: true })
  // As root, apt-get downloads as a user without rights, who must reach the folder.
  await chmod(join(apt, '..'), 0o755)
  const signed = existsSync(keyring) ? `[signed-by=${keyring}] ` : ''
  await writeFile(join(apt, 'sources.list'), `deb ${signed}${uri} unstable main\n`)
  // An empty list of installed packages: each package that this one needs is downloaded.
  await writeFile(join(apt, 'status'), '')
  // The hooks of the machine would change the caches of the machine.
  const options = `
    #clear APT::Update::Pre-Invoke;
    #clear APT::Update::Post-Invoke;
    #clear APT::Update::Post-Invoke-Success;
    Dir::State "${apt}/state";
    Dir::State::status "${apt}/status";
    Dir::Cache "${apt}/cache";
    Dir::Log "${apt}/log";
    Dir::Etc::sourcelist "${apt}/sources.list";
    Dir::Etc::sourceparts "/dev/null";
    Dir::Etc::preferences "/dev/null";
    Dir::Etc::preferencesparts "/dev/null";
    APT::Update::Error-Mode "any";
    APT::Install-Recommends "false";
    Acquire::Languages "none";
    Acquire::Retries "2";
    Acquire::http::Timeout "15";
    Acquire::https::Timeout "15";`
  await writeFile(join(apt, 'apt.conf'), options.replaceAll('\n    ', '\n'))
  await aptGet(apt, 'update')
  await aptGet(apt, 'install', '--yes', '--download-only', name)
  const archives = join(apt, 'cache/archives')
  return (await readdir(archives)).filter((file) => file.endsWith('.deb')).map((file) => join(archives, file))
}

async function aptGet(apt: string, ...args: string[]): Promise<void> {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' }
  try {
    await run('apt-get', ['-c', join(apt, 'apt.conf'), ...args], { env, timeout: timeoutMs, maxBuffer: 2 ** 24 })
  } catch (error) {
    const { stderr, killed } = error as { stderr: string; killed: boolean }
    const reason = killed ? `it took longer than ${timeoutMs / 1_000} s` : /^E: .*$/m.exec(stderr)?.[0]
    throw new Error(`apt-get ${args[0]} failed: ${reason ?? String(error)}`)
  }
}

/** Starts the program through the loader of its own folder, since the C library of the system may be older. */
async function startScript({ program, options }: Package, root: string): Promise<string> {
  const folders = await readdir(join(root, 'usr/lib'))
  const libraries = `usr/lib/${folders.find((name) => name.endsWith('-linux-gnu'))}`
  const loader = (await readdir(join(root, libraries))).find((name) => /^ld-linux.*\.so/.test(name))
  return `#!/bin/sh
root="\${0%/*}/root"
libraries="$root/${libraries}"
exec "$libraries/${loader}" --library-path "$libraries" "$root/${program}" "$@" ${options.map((option) => `"${option}"`).join(' ')}
`
}
