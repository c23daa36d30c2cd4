/** Where the servers are that the tests run against: on the PATH, or where Debian keeps what only root has on its PATH. */
import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** The first of these programs that there is. */
export function find(...names: string[]): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
  for (const name of names) {
    for (const folder of folders) {
      const file = join(folder, name)
      try {
        accessSync(file, constants.X_OK)
        return file
      } catch {
        // Not here.
      }
    }
  }
  return undefined
}

/** TEST_REDIS_SERVER and TEST_MYSQLD name programs to be started in place of the installed ones: a Valkey, a MySQL. */
export const findRedis = () => process.env.TEST_REDIS_SERVER || find('redis-server', 'valkey-server')
export const findMariadb = () => process.env.TEST_MYSQLD || find('mariadbd', 'mysqld')
/** Chromium without windows: it takes a third of the processor time. Debian has it, other systems may not. */
export const chromiumShell = 'chromium-headless-shell'
export const findChromium = () =>
  find(chromiumShell, 'chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome')
/** Comes with Prometheus itself. */
export const findPromtool = () => find('promtool')

export const findNginx = () => find('nginx')
export const findHaproxy = () => find('haproxy')

/** Galera's library, which MariaDB loads. */
export const findGalera = () =>
  ['/usr/lib/galera', '/usr/lib/galera-4', '/usr/lib64/galera-4', '/usr/lib']
    .map((folder) => join(folder, 'libgalera_smm.so'))
    .find((file) => existsSync(file))

/** As above, for who cannot do without. servers.ts has installed them by then, so that this is for a harness used by itself. */
export function need(file: string | undefined, name: string): string {
  if (file) return file
  throw new Error(`${name} is not installed. Run the tests with "npm test", which installs it or says how.`)
}
