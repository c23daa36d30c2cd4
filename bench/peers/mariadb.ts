/** MariaDB through its driver alone. */
import { createPool, type Pool } from 'mariadb'
import { need } from './peer.ts'

export function databasePool(connectionLimit: number): Pool {
  const { hostname, port, username, pathname } = new URL(need('DATABASE_URL'))
  return createPool({
    host: hostname,
    port: Number(port),
    user: username,
    database: pathname.slice(1),
    connectionLimit,
  })
}
