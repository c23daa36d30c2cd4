/** An HAProxy of a test's own, with a configuration of deploy/haproxy. */
import { writeFileSync } from 'node:fs'
import { mkdtemp, readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findHaproxy, need } from './binaries.ts'
import { launch } from './child.ts'
import { type Daemon, startDaemon } from './daemon.ts'

/** `words`: what stands in place of a word of the configuration, an address, say. */
export async function startHaproxy(name: string, words: Record<string, string>): Promise<Daemon> {
  const binary = need(findHaproxy(), 'haproxy')
  const dir = await mkdtemp(join(tmpdir(), 'spillway-haproxy-'))
  let config = await readFile(new URL(`../../deploy/haproxy/${name}.cfg`, import.meta.url), 'utf8')
  for (const [from, to] of Object.entries(words)) config = config.replaceAll(` ${from} `, ` ${to} `)
  return await startDaemon({
    name: 'haproxy',
    dir,
    throwAway: true,
    launch: (port) => {
      const file = join(dir, 'haproxy.cfg')
      writeFileSync(file, config.replace(/bind \S+/, `bind 127.0.0.1:${port}`))
      return launch(binary, ['-db', '-f', file], { throwAway: dir })
    },
    ping: (port) =>
      new Promise<void>((resolve, reject) => {
        const socket = connect(port, '127.0.0.1', () => {
          socket.destroy()
          resolve()
        })
        socket.on('error', reject)
      }),
    readyMs: 10_000,
  })
}
