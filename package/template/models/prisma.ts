/** The generated Prisma clients of this project, and `defineModel` for its tables: the only file that names them. */
import { type FieldsOf, modelsOf } from 'spillway'
import { PrismaClient as MysqlClient } from '../prisma/mysql/generated/client.ts'
import type PrismaTypes from '../prisma/mysql/generated/pothos.ts'
import { getDatamodel } from '../prisma/mysql/generated/pothos.ts'
import { type Rows, tables } from '../prisma/mysql/generated/tables.ts'
import { PrismaClient as SqliteClient } from '../prisma/sqlite/generated/client.ts'

export const prisma = {
  mysql: MysqlClient,
  sqlite: SqliteClient,
  datamodel: getDatamodel(),
  folder: new URL('../prisma/', import.meta.url),
}

/** What `fields` of each model is: a function of Pothos' field builder. */
type Fields = { [Name in keyof Rows]: FieldsOf<PrismaTypes, MysqlClient, Name> }

export const defineModel = modelsOf<Rows, Fields, typeof tables>(tables)
