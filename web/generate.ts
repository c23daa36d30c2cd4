/**
 * Makes operations.ts of operations.graphql: each operation as a constant, typed with what it takes and what it answers. Run by hand
 * (`npm run docs`); a test fails when the file is not what this makes of the schema as it is. Throws where an operation is not valid.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import {
  buildSchema,
  type GraphQLOutputType,
  type GraphQLSchema,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isListType,
  isNonNullType,
  isObjectType,
  Kind,
  type OperationDefinitionNode,
  parse,
  print,
  type SelectionSetNode,
  stripIgnoredCharacters,
  type TypeNode,
  validate,
} from 'graphql'

const scalars: Record<string, string> = {
  ID: 'string',
  String: 'string',
  DateTime: 'string',
  Int: 'number',
  Float: 'number',
  Boolean: 'boolean',
  JSON: 'unknown',
}

export function generate(schemaText: string, operationsText: string): string {
  const schema = buildSchema(schemaText)
  const document = parse(operationsText)
  const [error] = validate(schema, document)
  if (error) throw error
  const operations = document.definitions.filter((definition) => definition.kind === Kind.OPERATION_DEFINITION)
  const constants = operations.map((operation) => {
    const name = operation.name!.value
    const data = outputOf(schema, operation.selectionSet, schema.getRootType(operation.operation)!)
    const text = stripIgnoredCharacters(print(operation)).replaceAll("'", "\\'")
    return `export const ${name} = '${text}' as Operation<\n  ${data},\n  ${variablesOf(schema, operation)}\n>`
  })
  return `/** Made by web/generate.ts of operations.graphql and schema.graphql: change those. */

declare const answers: unique symbol
declare const takes: unique symbol
/** The text of an operation, and in its type what it answers and what it takes. */
export type Operation<Data, Variables> = string & { [answers]: Data; [takes]: Variables }

${constants.join('\n\n')}
`
}

function outputOf(schema: GraphQLSchema, { selections }: SelectionSetNode, type: GraphQLOutputType): string {
  const parent = getNamedType(type)
  if (!isObjectType(parent) && !isInterfaceType(parent))
    throw new Error(`${parent} is neither an object nor an interface: generate.ts has to learn it`)
  const fields = selections.map((field) => {
    if (field.kind !== Kind.FIELD || field.alias)
      throw new Error('fragments and aliases: generate.ts has to learn them')
    const { type } = parent.getFields()[field.name.value]!
    return `${field.name.value}: ${typeOf(type, (named) =>
      field.selectionSet ? outputOf(schema, field.selectionSet, named) : leaf(schema, getNamedType(named).name),
    )}`
  })
  return `{ ${fields.join('; ')} }`
}

function typeOf(type: GraphQLOutputType, named: (type: GraphQLOutputType) => string): string {
  if (!isNonNullType(type)) return `${nonNull(type, named)} | null`
  return nonNull(type.ofType, named)
}

function nonNull(type: GraphQLOutputType, named: (type: GraphQLOutputType) => string): string {
  if (!isListType(type)) return named(type)
  const item = typeOf(type.ofType, named)
  return `(${item})[]`
}

function leaf(schema: GraphQLSchema, name: string): string {
  const type = schema.getType(name)
  if (isEnumType(type))
    return type
      .getValues()
      .map(({ name }) => `'${name}'`)
      .join(' | ')
  return scalars[name] ?? raise(`${name} has no TypeScript type: tell generate.ts`)
}

function variablesOf(schema: GraphQLSchema, { variableDefinitions = [] }: OperationDefinitionNode): string {
  const fields = variableDefinitions.map(({ variable, type }) => {
    const optional = type.kind === Kind.NON_NULL_TYPE ? '' : '?'
    return `${variable.name.value}${optional}: ${inputOf(schema, type)}`
  })
  return fields.length === 0 ? 'Record<string, never>' : `{ ${fields.join('; ')} }`
}

function inputOf(schema: GraphQLSchema, type: TypeNode): string {
  if (type.kind === Kind.NON_NULL_TYPE) return inputOf(schema, type.type).replace(/ \| null$/, '')
  if (type.kind === Kind.LIST_TYPE) return `(${inputOf(schema, type.type)})[] | null`
  const input = schema.getType(type.name.value)
  if (!isInputObjectType(input)) return `${leaf(schema, type.name.value)} | null`
  const fields = Object.values(input.getFields()).map((field) => {
    const required = isNonNullType(field.type)
    const name = getNamedType(field.type).name
    return `${field.name}${required ? '' : '?'}: ${leaf(schema, name)}${required ? '' : ' | null'}`
  })
  return `{ ${fields.join('; ')} } | null`
}

function raise(message: string): never {
  throw new Error(message)
}

const here = (name: string) => new URL(name, import.meta.url)
export const generated = () =>
  generate(readFileSync(here('../schema.graphql'), 'utf8'), readFileSync(here('./operations.graphql'), 'utf8'))

if (import.meta.main) writeFileSync(here('./operations.ts'), generated())
