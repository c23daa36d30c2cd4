/** The tables of the Prisma schema, from what a generator is given, and the TypeScript source with them. */
import type { DMMF } from '@prisma/generator-helper'
import type { Reference, Table, TableColumn } from '../../src/model/table.ts'
import { isPackage } from './project.ts'

export function tablesOf({ models, enums, indexes }: DMMF.Datamodel): Table[] {
  return models.map((model) => {
    const columns = model.fields.filter(({ kind }) => kind !== 'object')
    const indexed = (type: DMMF.IndexType) =>
      indexes
        .filter((index) => index.model === model.name && index.type === type)
        .map(({ fields }) => fields.map(({ name }) => name))
    return {
      name: model.name,
      dbName: model.dbName ?? model.name,
      description: model.documentation,
      columns: columns.map((field) => columnOf(field, enums)),
      primaryKey: model.primaryKey?.fields ?? columns.filter(({ isId }) => isId).map(({ name }) => name),
      indexes: indexed('normal'),
      unique: indexed('unique'),
      references: model.fields.flatMap(referenceOf),
    }
  })
}

function columnOf(field: DMMF.Field, enums: readonly DMMF.DatamodelEnum[]): TableColumn {
  const ofEnum = field.kind === 'enum' ? enums.find(({ name }) => name === field.type) : undefined
  const value = typeof field.default === 'object' ? undefined : field.default
  const call = typeof field.default === 'object' && 'name' in field.default ? field.default.name : undefined
  return {
    name: field.name,
    dbName: field.dbName ?? field.name,
    type: ofEnum ? 'Enum' : field.type,
    nullable: !field.isRequired,
    list: field.isList,
    native: field.nativeType ?? undefined,
    values: ofEnum?.values.map(({ name, dbName }) => ({ name, dbName: dbName ?? name })),
    enumName: ofEnum?.name,
    // Prisma hands a Decimal over as a number.
    default: field.type === 'Decimal' && value !== undefined ? String(value) : value,
    generated: call ?? (field.isUpdatedAt ? 'updatedAt' : undefined),
    description: field.documentation,
  }
}

/** The field on the child's side is the one that names the columns. */
function referenceOf({ type, relationFromFields = [], relationToFields = [] }: DMMF.Field): Reference[] {
  if (relationFromFields.length === 0) return []
  return [{ columns: relationFromFields, model: type, parentColumns: relationToFields }]
}

const types = isPackage ? 'spillway' : '../../../src/model/table.ts'
const imports = [`import type { Table } from '${types}'`, "import type { Prisma } from './client.ts'"]

/** As literal types, so that the columns, enum values and nullability of a model can be inferred. */
export function tablesSource(tables: readonly Table[]): string {
  const lines = (of: readonly unknown[]) =>
    of.length ? `[\n${of.map((item) => `      ${literal(item)},\n`).join('')}    ]` : '[]'
  const entries = tables.map(({ columns, ...table }) => {
    const members = Object.entries(table).map(([key, value]) => `    ${key}: ${literal(value)},\n`)
    return `  ${table.name}: {\n${members.join('')}    columns: ${lines(columns)},\n  },\n`
  })
  const rows = tables.map(({ name }) => `  ${name}: Prisma.${name}Model\n`)
  return `// Generated from prisma/schema.prisma by prisma/generator. Do not edit.
// biome-ignore-all lint: generated file
${imports.join('\n')}

export const tables = {
${entries.join('')}} as const satisfies Record<string, Table>

/** A row of each model, as Prisma's client reads it. */
export interface Rows {
${rows.join('')}}
`
}

function literal(value: unknown): string {
  if (value === undefined) return 'undefined'
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  return `{ ${Object.entries(value)
    .map(([key, member]) => `${key}: ${literal(member)}`)
    .join(', ')} }`
}
