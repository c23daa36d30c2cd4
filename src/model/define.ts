/**
 * `defineModel`: a model from its table in the Prisma schema and the rules of a file in src/models/. A definition that is wrong stops the
 * start with one error, which names the file, the column and what to do.
 */
import { checkDefinition } from './check-definition.ts'
import { type Column, codecs, Problem } from './columns.ts'
import type { Definition, Own, Rules, RulesOf, WithClaim } from './definition.ts'
import { type Model, maxSizeOf, type Row } from './model.ts'
import { isReserved, namesOf, reservedFields, reservedNames, reservedPaths, reservedTypes } from './names.ts'
import { setsOf } from './narrow.ts'
import { nativeLimits } from './native.ts'
import type { Shaped } from './shape.ts'
import type { ColumnType, Table, TableColumn } from './table.ts'

/** A definition is wrong. */
export class ModelError extends Error {
  override readonly name = 'ModelError'
}

/**
 * Binds `defineModel` to the tables of a Prisma schema. `Rows` and `Fields`: the row and the GraphQL fields of each model. `Tables`: their
 * literal type, of which the types of clients are made.
 */
export function modelsOf<
  Rows,
  Fields extends Record<keyof Rows, unknown>,
  Tables extends Readonly<Record<keyof Rows & string, Table>> = Readonly<Record<keyof Rows & string, Table>>,
>(tables: Tables) {
  return <
    N extends keyof Rows & string,
    const By extends readonly (readonly Own<Rows[N]>[])[] = [],
    // biome-ignore lint/complexity/noBannedTypes: no column has rules.
    const Columns extends RulesOf<Rows[N]> = {},
    Visible extends Own<Rows[N]> = never,
  >(
    name: N,
    definition: Definition<Rows[N], Fields[N], By, Columns, Visible>,
  ): Model<Rows[N]> & Shaped<N, Tables[N], By, WithClaim<Columns> | Visible> => {
    const where = `The model ${name} (${callerOf()})`
    const table = (tables as Readonly<Record<string, Table>>)[name]
    if (!table) {
      throw new ModelError(
        `${where} is not in prisma/schema.prisma, which has ${Object.keys(tables).join(', ')}; add it there, then run npm run migration -- NAME, or npm run generate if its migration is written`,
      )
    }
    const problem = (text: string) => new ModelError(`${where}: ${text}`)
    checkDefinition(definition, problem)
    return modelOf(table, definition as unknown as Definition<Row>, problem)
  }
}

/** A file in the stack outside this folder, as a path from the working directory. */
function callerOf(): string {
  const lines = new Error().stack?.split('\n').slice(1) ?? []
  const line = lines.find((one) => !one.includes('/src/model/')) ?? ''
  const [, path = 'unknown file'] = /(?:file:\/\/)?(\/[^\s():]+):\d+:\d+/.exec(line) ?? []
  const here = `${process.cwd()}/`
  return path.startsWith(here) ? path.slice(here.length) : path
}

type Fail = (text: string) => Error

const ours: Record<string, ColumnType> = { id: 'String', createdAt: 'DateTime', savedAt: 'DateTime' }
const mostOfName = 40
const mostUnbounded = 1_048_576

function modelOf(table: Table, definition: Definition<Row>, problem: Fail): Model {
  const { name } = table
  if (name.length > mostOfName)
    throw problem(`its name has ${name.length} characters; at most ${mostOfName} are allowed`)
  checkOurs(table, problem)
  const { by = [], visibleTo = {}, columns: rules = {} } = definition as Definition<Record<string, unknown>>
  const names = table.columns.map((column) => column.name)
  for (const column of [...Object.keys(rules), ...by.flat(), ...Object.keys(visibleTo)]) {
    if (Object.hasOwn(ours, column)) throw problem(`${column} is set by Spillway; remove it from the definition`)
    if (!names.includes(column)) {
      throw problem(
        `there is no column ${column}; it has ${names.filter((one) => !Object.hasOwn(ours, one)).join(', ')}; add ${column} to prisma/schema.prisma, then npm run migration -- NAME, or mend its name`,
      )
    }
  }
  const visible = Object.entries(visibleTo)
  if (visible.length !== 1 && definition.visibleTo) throw problem(`visibleTo names ${visible.length} columns; name one`)
  const narrowed = new Set([...by.flat(), ...Object.keys(visibleTo)])
  const columns = table.columns
    .filter((column) => !Object.hasOwn(ours, column.name))
    .map((column) =>
      columnOf(column, { rules: rules[column.name] ?? {}, narrows: narrowed.has(column.name), table }, problem),
    )
  const [first] = visible
  if (first) checkVisibleTo(first, columns, problem)
  const model: Model = {
    name,
    table: table.dbName,
    description: definition.description ?? table.description ?? `A saved ${name}: one row of the database.`,
    columns,
    by: by.map((set) => [...set]),
    visibleTo: first && { column: first[0], claim: first[1]! },
    references: table.references,
    names: namesOf(name, definition.names ?? {}, problem),
    check: definition.check as Model['check'],
    fields: definition.fields,
  }
  checkNarrowings(model, table, problem)
  return model
}

/** A claim is a text or a number; the rows that a token saves are those that it sees. */
function checkVisibleTo(
  [name, claim]: readonly [string, string | undefined],
  columns: readonly Column[],
  problem: Fail,
) {
  const { type, fromToken } = columns.find((column) => column.name === name)!
  if (!rulesOf.fromToken.includes(type)) {
    const types = rulesOf.fromToken.map((one) => (one === 'Enum' ? 'an enum' : one)).join(', ')
    throw problem(`the column ${name} is in visibleTo and has the type ${type}; expected one of ${types}`)
  }
  if (fromToken !== undefined && fromToken !== claim)
    throw problem(`the column ${name} has fromToken: '${fromToken}' and visibleTo: '${claim}'; remove fromToken`)
}

function checkOurs(table: Table, problem: Fail): void {
  const { primaryKey, unique } = table
  for (const [name, type] of Object.entries(ours)) {
    const column = table.columns.find((one) => one.name === name)
    const declaration = name === 'id' ? 'id String @id @db.Char(36)' : `${name} DateTime @db.DateTime(3)`
    if (!column) throw problem(`it lacks the column ${name}; add "${declaration}" to it in prisma/schema.prisma`)
    const native = column.native?.[1].join() ?? ''
    const isFit = column.type === type && !column.nullable && !column.list && column.generated === undefined
    const isSized =
      name === 'id'
        ? ['Char', 'VarChar'].includes(column.native?.[0] ?? '') && Number(native) >= 36
        : Number(native || 3) >= 3
    if (!isFit || !isSized || column.dbName !== name)
      throw problem(
        `its column ${name} must be declared as "${declaration}" in prisma/schema.prisma, since Spillway writes it`,
      )
  }
  if (primaryKey.join() !== 'id')
    throw problem('its primary key must be id; write @id at the column id in prisma/schema.prisma')
  const other = unique.find((columns) => !columns.includes('id'))
  if (other) {
    throw problem(
      `${other.join(' and ')} must not be unique: saves that were acknowledged cannot be refused by the database; replace it by @@index`,
    )
  }
}

interface Use {
  rules: Rules
  /** Lists can be narrowed to its values. */
  narrows: boolean
  table: Table
}

function columnOf(column: TableColumn, { rules, narrows, table }: Use, problem: Fail): Column {
  const { name, dbName, nullable, enumName, values } = column
  const wrong = (text: string) => problem(`the column ${name} ${text}`)
  if (isReserved(name, narrows))
    throw wrong('has a name that Spillway uses itself; rename it, and keep its name in the database by @map')
  const type = column.type as ColumnType
  if (!Object.hasOwn(codecs, type) || column.list) {
    throw wrong(
      `has the type ${column.type}${column.list ? '[]' : ''}; expected one of ${Object.keys(codecs).join(', ')} (an enum counts as Enum)`,
    )
  }
  if (column.generated !== undefined)
    throw wrong(
      `gets its value from ${column.generated}, in the database or in Prisma; Spillway writes every value itself: remove it, or use a literal default`,
    )
  if (narrows && !['String', 'Int', 'BigInt', 'Boolean', 'Enum'].includes(type))
    throw wrong(`is in by or visibleTo and has the type ${type}; expected String, Int, BigInt, Boolean or an enum`)
  const unspeakable = values?.find((value) => ['true', 'false', 'null'].includes(value.name))
  if (unspeakable) {
    throw wrong(
      `has an enum with the value ${unspeakable.name}, which GraphQL reserves; rename it, and keep its name in the database by @map`,
    )
  }
  const limits = nativeLimits(type, column.native)
  if (typeof limits === 'string') throw wrong(limits)
  checkRules(type, rules, wrong)
  const least = <V extends number | undefined>(a: V, b: V) => (a === undefined || (b !== undefined && b < a) ? b : a)
  const resolved: Column = {
    name,
    dbName,
    type,
    nullable,
    default: undefined,
    description: rules.description ?? column.description,
    enumName,
    values,
    // Without a rule, CONTENT_MAX_BYTES is the limit, which is set later.
    maxBytes: least(rules.maxBytes, limits.maxBytes) ?? mostUnbounded,
    hasMaxBytes: rules.maxBytes !== undefined,
    maxLength: least(rules.maxLength, limits.maxLength),
    exactBytes: limits.exactBytes,
    min: limits.min,
    max: limits.max,
    digits: limits.digits,
    pattern: rules.pattern,
    parent: table.references.find(({ columns, parentColumns }) => parentColumns[columns.indexOf(name)] === 'id')?.model,
    trimsEnd: limits.trimsEnd || (narrows && type === 'String'),
    fromToken: rules.fromToken,
  }
  const bound = (input: number | string | undefined, rule: string) => {
    if (input === undefined) return undefined
    const value = codecs[type].parse(input, resolved)
    if (value instanceof Problem) throw wrong(`has the rule ${rule}: ${input}, which ${value.text}`)
    return value
  }
  const [min, max] = [bound(rules.min, 'min'), bound(rules.max, 'max')]
  if (min !== undefined) resolved.min = min
  if (max !== undefined) resolved.max = max
  if (min !== undefined && max !== undefined && Number(min) > Number(max))
    throw wrong(`has the rules min: ${rules.min} and max: ${rules.max}, between which there is no value`)
  if (column.default !== undefined) {
    const value = codecs[type].parse(defaultOf(type, column.default), resolved)
    if (value instanceof Problem) throw wrong(`has the default ${column.default}, which ${value.text}`)
    resolved.default = value
  }
  return resolved
}

function defaultOf(type: ColumnType, given: string | number | boolean): unknown {
  return type === 'Json' ? JSON.parse(String(given)) : given
}

const rulesOf: Record<keyof Rules, readonly ColumnType[]> = {
  maxBytes: ['String', 'Json', 'Bytes'],
  maxLength: ['String'],
  min: ['Int', 'BigInt', 'Float', 'Decimal', 'DateTime'],
  max: ['Int', 'BigInt', 'Float', 'Decimal', 'DateTime'],
  pattern: ['String'],
  fromToken: ['String', 'Int', 'BigInt', 'Decimal', 'Enum'],
  description: Object.keys(codecs) as ColumnType[],
}

function checkRules(type: ColumnType, rules: Rules, wrong: Fail): void {
  for (const rule of Object.keys(rules) as (keyof Rules)[]) {
    if (!Object.hasOwn(rulesOf, rule))
      throw wrong(`has the rule ${rule}; expected one of ${Object.keys(rulesOf).join(', ')}`)
    if (!rulesOf[rule].includes(type)) {
      const fit = Object.entries(rulesOf).flatMap(([name, types]) => (types.includes(type) ? [name] : []))
      throw wrong(`has the type ${type}, which the rule ${rule} is not for; its rules are ${fit.join(', ')}`)
    }
  }
  for (const rule of ['maxBytes', 'maxLength'] as const) {
    const value = rules[rule]
    if (value !== undefined && !(Number.isInteger(value) && value >= 1 && value <= mostUnbounded))
      throw wrong(`has the rule ${rule}: ${value}; expected a whole number from 1 to ${mostUnbounded}`)
  }
  // A pattern with the flag g or y remembers where it matched last.
  if (rules.pattern && /[gy]/.test(rules.pattern.flags))
    throw wrong('has a pattern with the flag g or y; remove the flag')
}

/** Each set of columns needs an index that begins with them, in any order, and goes on with createdAt and id: the order of lists. */
function checkNarrowings(model: Model, { indexes }: Table, problem: Fail): void {
  for (const set of setsOf(model)) {
    // Without an index, a list of all rows is sorted by the database: slow in a large table, and not wrong.
    if (set.length === 0) continue
    const isFit = (index: readonly string[]) =>
      [...index.slice(0, set.length)].sort().join() === set.join() &&
      index.slice(set.length, set.length + 2).join() === 'createdAt,id'
    if (!indexes.some(isFit)) {
      throw problem(
        `lists can be narrowed to ${set.join(' and ')}, and no index is fit for that; add @@index([${[...set, 'createdAt', 'id'].join(', ')}]) to it in prisma/schema.prisma, and a migration (npm run migration -- NAME)`,
      )
    }
  }
}

/** The models of a release by name. Throws if two claim one name. */
export function listModels(models: readonly Model[]): ReadonlyMap<string, Model> {
  if (models.length === 0) throw new ModelError('There is no model; list at least one in models/index.ts')
  const twice = models.find(({ name }, i) => models.findIndex((other) => other.name === name) !== i)
  if (twice) throw new ModelError(`models/index.ts lists the model ${twice.name} twice; remove one`)
  const owners = new Map<string, string>()
  const claim = (kind: string, name: string, owner: string) => {
    const other = owners.get(`${kind} ${name}`)
    if (other !== undefined) {
      throw new ModelError(
        `${owner} and ${other} both claim the ${kind} ${name}; rename one of them, or give one other names: defineModel(…, { names: { … } })`,
      )
    }
    owners.set(`${kind} ${name}`, owner)
  }
  for (const [kind, reserved] of Object.entries(reservedNames))
    for (const name of reserved) claim(kind, name, 'Spillway')
  for (const name of reservedTypes) claim('GraphQL type', name, 'Spillway')
  for (const path of reservedPaths) claim('path', path, 'Spillway')
  for (const { name, names, columns } of models) {
    const owner = `the model ${name}`
    if (reservedFields.includes(names.one)) {
      throw new ModelError(
        `${owner} has the name ${names.one}, which is a field of receipts or events; give it another one: defineModel(…, { names: { one: '…' } })`,
      )
    }
    for (const field of [names.one, names.many]) claim('query', field, owner)
    for (const field of [names.save, names.saveMany]) claim('mutation', field, owner)
    claim('subscription', names.saved, owner)
    for (const end of ['', 'Input', 'Receipt', 'Saved', 'Connection', 'Edge'])
      claim('GraphQL type', `${name}${end}`, owner)
    for (const path of new Set([names.savePath, names.listPath])) claim('path', path, owner)
    for (const column of columns) if (column.enumName) claimEnum(owners, column.enumName)
  }
  return new Map(models.map((model) => [model.name, model]))
}

/** Several columns may have one enum. */
function claimEnum(owners: Map<string, string>, name: string): void {
  const owner = `the enum ${name}`
  const other = owners.get(`GraphQL type ${name}`)
  if (other !== undefined && other !== owner)
    throw new ModelError(`${owner} and ${other} both claim the GraphQL type ${name}; rename one of them`)
  owners.set(`GraphQL type ${name}`, owner)
}

/** Even a server with a low max_allowed_packet takes a statement with such a row. */
const mostOfRow = 4 * 1_048_576

/** Sets the limit of columns without a rule of their own (CONTENT_MAX_BYTES). Throws if a row may be larger than a statement. */
export function limitColumns(models: ReadonlyMap<string, Model>, maxBytes: number): ReadonlyMap<string, Model> {
  const limit = (column: Column): Column =>
    !column.hasMaxBytes && column.maxBytes > maxBytes ? { ...column, maxBytes } : column
  return new Map(
    [...models].map(([name, model]) => {
      const limited = { ...model, columns: model.columns.map(limit) }
      const most = maxSizeOf(limited)
      if (most > mostOfRow) {
        throw new ModelError(
          `The columns of the model ${name} may have ${most} bytes together, and a row may have at most ${mostOfRow}; lower maxBytes of some of them, or CONTENT_MAX_BYTES`,
        )
      }
      return [name, limited]
    }),
  )
}
