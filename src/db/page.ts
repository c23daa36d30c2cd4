/** Pages of a table over Prisma's client. */
import type { Model, Row } from '../model/model.ts'
import type { Narrowing } from '../model/narrow.ts'
import type { Client } from './dialect.ts'
import type { PageQuery } from './store.ts'

/**
 * Two queries if there is a cursor: Prisma's own `cursor` makes subqueries under an OR, for which SQLite walks the index from its end
 * (115 ms in the middle of a million rows; this takes 1). The second query reads the cursor's row again: one address may stand for several
 * replicas, and the page comes from the one that answers last.
 */
export async function pageOf(rows: Delegate, { take, skip, cursor, where }: PageQuery): Promise<Row[] | undefined> {
  const order = take < 0 ? 'asc' : 'desc'
  const orderBy = [{ createdAt: order }, { id: order }] as const
  const most = Math.abs(take)
  let found: Row[]
  if (cursor === undefined) {
    found = await rows.findMany({ where, orderBy, take: most })
  } else {
    const row = await rows.findFirst({ where: { ...where, id: cursor }, select: { createdAt: true } })
    if (!row) return undefined
    const start = from({ id: cursor, createdAt: row.createdAt }, order)
    found = await rows.findMany({ where: { ...where, ...start }, orderBy, take: most + 1 })
    if (found[0]?.id !== cursor) return undefined
    found = found.slice(skip, skip + most)
  }
  return take < 0 ? found.reverse() : found
}

/** The part of Prisma's client for one model that the store uses. */
interface Delegate {
  findMany(query: {
    where?: Narrowing | object
    orderBy?: readonly Record<string, 'asc' | 'desc'>[]
    take?: number
  }): Promise<Row[]>
  findFirst(query: { where: object; select: object }): Promise<Pick<Row, 'createdAt'> | null>
}

export function rowsIn(client: Client, { name }: Model): Delegate {
  return (client as unknown as Record<string, Delegate>)[`${name[0]!.toLowerCase()}${name.slice(1)}`]!
}

/** This row and those after it, as a range of the index (createdAt, id): the first condition bounds it, the second trims its one end. */
function from({ id, createdAt }: { id: string; createdAt: Date }, order: 'asc' | 'desc') {
  return order === 'desc'
    ? { createdAt: { lte: createdAt }, OR: [{ createdAt: { lt: createdAt } }, { id: { lte: id } }] }
    : { createdAt: { gte: createdAt }, OR: [{ createdAt: { gt: createdAt } }, { id: { gte: id } }] }
}
