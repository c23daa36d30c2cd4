/** An nginx of a test's own, Debian's, that has nothing but `proxy_pass`: whatever it does by default, it does here. */
import { writeFileSync } from 'node:fs'
import { mkdir, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findNginx, need } from './binaries.ts'
import { launch } from './child.ts'
import { type Daemon, startDaemon } from './daemon.ts'

export async function startNginx(upstream: string): Promise<Daemon & { url: string }> {
  const binary = need(findNginx(), 'nginx')
  const dir = await mkdtemp(join(tmpdir(), 'spillway-nginx-'))
  await mkdir(join(dir, 'temp'))
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${dir}/temp/${name};`,
  )
  const daemon = await startDaemon({
    name: 'nginx',
    dir,
    throwAway: true,
    launch: (port) => {
      const file = join(dir, 'nginx.conf')
      writeFileSync(
        file,
        `daemon off; master_process off; pid ${dir}/nginx.pid; error_log stderr; events {}
        http {
          access_log off; ${temporary.join(' ')}
          server { listen 127.0.0.1:${port}; location / { proxy_pass ${upstream}; } }
        }`,
      )
      return launch(binary, ['-e', 'stderr', '-c', file], { throwAway: dir })
    },
    ping: (port) => fetch(`http://127.0.0.1:${port}/livez`),
    readyMs: 10_000,
  })
  return Object.assign(daemon, { url: `http://127.0.0.1:${daemon.port}` })
}
