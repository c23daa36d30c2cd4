/**
 * The SQL that defines each table on MySQL and on SQLite, from what a generator is given. `npm run migration` compares it with the
 * definitions that the migrations made, and writes the difference.
 */
import type { DMMF } from '@prisma/generator-helper'
import { mysqlDefault, mysqlType, sqliteDefault, sqliteType } from './column-sql.ts'

/** Type, NULL or NOT NULL, and the default if there is one. */
export type ColumnSql = readonly [type: string, nullness: string, value?: string]

/** By the names in the database. */
export interface TableSql {
  columns: Record<string, ColumnSql>
  primaryKey: string
  /** `INDEX … ON …`, by the name of the index. */
  indexes: Record<string, string>
  /** `FOREIGN KEY … REFERENCES …`, by the name of the constraint. */
  foreignKeys: Record<string, string>
}

/** By the name of the table in the database. */
export type TablesSql = Record<string, TableSql>

export type Kind = 'mysql' | 'sqlite'

/** MySQL's and MariaDB's limit for a name. */
const NAME = 64

export function definitionsOf(datamodel: DMMF.Datamodel): Record<Kind, TablesSql> {
  for (const model of datamodel.models) refuseJoinTable(datamodel, model)
  return { mysql: tablesOf(datamodel, 'mysql'), sqlite: tablesOf(datamodel, 'sqlite') }
}

/** Prisma keeps a many-to-many relation in a table that no model describes, so that no row of it could be saved. */
function refuseJoinTable({ models }: DMMF.Datamodel, { name, fields }: DMMF.Model): void {
  for (const field of fields.filter(({ isList, relationName }) => isList && relationName)) {
    const others = models
      .find((model) => model.name === field.type)!
      .fields.filter((other) => other.relationName === field.relationName && other !== field)
    if (others.every(({ isList }) => !isList)) continue
    throw new Error(
      `${name}.${field.name} is one end of a many-to-many relation: add a model of the relation, with a foreign key to each side`,
    )
  }
}

function tablesOf(datamodel: DMMF.Datamodel, kind: Kind): TablesSql {
  return Object.fromEntries(
    datamodel.models.map((model) => {
      const columns = model.fields.filter((field) => field.kind !== 'object')
      const key = model.primaryKey?.fields ?? columns.filter(({ isId }) => isId).map(({ name }) => name)
      return [
        tableName(model),
        {
          columns: Object.fromEntries(
            columns.map((field) => [columnName(field), columnSql(datamodel, model, field, kind)]),
          ),
          primaryKey: `PRIMARY KEY (${names(model, key, kind)})`,
          indexes: indexesOf(datamodel, model, kind),
          foreignKeys: foreignKeysOf(datamodel, model, kind),
        },
      ]
    }),
  )
}

function columnSql(datamodel: DMMF.Datamodel, model: DMMF.Model, field: DMMF.Field, kind: Kind): ColumnSql {
  const values = datamodel.enums.find(({ name }) => name === field.type)?.values
  const nullness = field.isRequired ? 'NOT NULL' : 'NULL'
  if (kind === 'sqlite') return parts(sqliteType(field), nullness, sqliteDefault(field, values))
  const ascii = isId(datamodel, model, field)
  return parts(mysqlType(field, values, ascii), nullness, mysqlDefault(field, values))
}

const parts = (type: string, nullness: string, value: string | undefined): ColumnSql =>
  value === undefined ? [type, nullness] : [type, nullness, `DEFAULT ${value}`]

/** A CHAR that is a primary key, or that refers to one: both ends of a foreign key must have one character set. */
function isId(datamodel: DMMF.Datamodel, model: DMMF.Model, field: DMMF.Field): boolean {
  if (field.nativeType?.[0] !== 'Char') return false
  if (field.isId) return true
  return model.fields.some(({ type, relationFromFields, relationToFields }) => {
    const to = relationToFields?.[relationFromFields?.indexOf(field.name) ?? -1]
    const parent = datamodel.models.find(({ name }) => name === type)
    return parent?.fields.some(({ name, isId }) => name === to && isId) ?? false
  })
}

function indexesOf(datamodel: DMMF.Datamodel, model: DMMF.Model, kind: Kind): Record<string, string> {
  const indexes = datamodel.indexes.filter(
    (index) => index.model === model.name && index.type !== 'id' && (kind === 'mysql' || index.type !== 'fulltext'),
  )
  return Object.fromEntries(
    indexes.map((index) => {
      const suffix = index.type === 'unique' ? 'key' : 'idx'
      const columns = index.fields.map(({ name }) => nameIn(model, name))
      const name = index.dbName ?? defaultName(model, columns, suffix)
      const type = { unique: 'UNIQUE INDEX', fulltext: 'FULLTEXT INDEX' }[index.type as string] ?? 'INDEX'
      const list = index.fields.map(({ name, length, sortOrder }) => {
        const prefix = length && kind === 'mysql' ? `(${length})` : ''
        return `${names(model, [name], kind)}${prefix}${sortOrder === 'desc' ? ' DESC' : ''}`
      })
      return [name, `${type} ${quoted(name, kind)} ON ${quoted(tableName(model), kind)} (${list.join(', ')})`]
    }),
  )
}

const actions: Record<string, string> = {
  Cascade: 'CASCADE',
  Restrict: 'RESTRICT',
  NoAction: 'NO ACTION',
  SetNull: 'SET NULL',
  SetDefault: 'SET DEFAULT',
}

function foreignKeysOf(datamodel: DMMF.Datamodel, model: DMMF.Model, kind: Kind): Record<string, string> {
  const keys = model.fields.filter(({ relationFromFields }) => relationFromFields?.length)
  return Object.fromEntries(
    keys.map(
      ({ type, isRequired, relationFromFields = [], relationToFields = [], relationOnDelete, relationOnUpdate }) => {
        const parent = datamodel.models.find(({ name }) => name === type)!
        const name = defaultName(
          model,
          relationFromFields.map((field) => nameIn(model, field)),
          'fkey',
        )
        const onDelete = actions[relationOnDelete ?? (isRequired ? 'Restrict' : 'SetNull')]
        const onUpdate = actions[relationOnUpdate ?? 'Cascade']
        const to = `${quoted(tableName(parent), kind)} (${names(parent, relationToFields, kind)})`
        const sql = `FOREIGN KEY (${names(model, relationFromFields, kind)}) REFERENCES ${to} ON DELETE ${onDelete} ON UPDATE ${onUpdate}`
        return [name, sql]
      },
    ),
  )
}

const tableName = ({ name, dbName }: DMMF.Model) => dbName ?? name
const columnName = ({ name, dbName }: DMMF.Field) => dbName ?? name
const nameIn = (model: DMMF.Model, field: string) => columnName(model.fields.find(({ name }) => name === field)!)
const names = (model: DMMF.Model, fields: readonly string[], kind: Kind) =>
  fields.map((field) => quoted(nameIn(model, field), kind)).join(', ')

/** As Prisma names them. */
function defaultName(model: DMMF.Model, columns: readonly string[], suffix: string): string {
  const base = [tableName(model), ...columns].join('_')
  return `${base.slice(0, NAME - suffix.length - 1)}_${suffix}`
}

export const quoted = (name: string, kind: Kind) =>
  kind === 'mysql' ? `\`${name.replaceAll('`', '``')}\`` : `"${name.replaceAll('"', '""')}"`
