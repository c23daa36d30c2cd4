/** The generated Prisma clients of this Spillway, and `defineModel` for its tables: the only file that names them. */
import { PrismaClient as MysqlClient } from '../../prisma/mysql/generated/client.ts'
import { getDatamodel } from '../../prisma/mysql/generated/pothos.ts'
import { type Rows, tables } from '../../prisma/mysql/generated/tables.ts'
import { PrismaClient as SqliteClient } from '../../prisma/sqlite/generated/client.ts'
import { modelsOf } from '../model/define.ts'

export const prisma = { mysql: MysqlClient, sqlite: SqliteClient, datamodel: getDatamodel() }

export const defineModel = modelsOf<Rows, Record<keyof Rows, unknown>>(tables)
