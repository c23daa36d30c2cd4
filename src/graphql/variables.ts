/**
 * Checks variables against their declarations before a library coerces them: a library prints the full value into each of its errors.
 * Invariant: each value is visited once, at most five errors are created, and none repeats an object or a list.
 */
import {
  GraphQLError,
  type GraphQLInputObjectType,
  type GraphQLInputType,
  type GraphQLLeafType,
  type GraphQLSchema,
  isEnumType,
  isInputObjectType,
  isInputType,
  isListType,
  isNonNullType,
  isRequiredInputField,
  isSpecifiedScalarType,
  type OperationDefinitionNode,
  typeFromAST,
  type VariableDefinitionNode,
} from 'graphql'
import { httpStatus, truncate } from '../http/errors.ts'

const maxErrors = 5
const maxShownBytes = 100

/** The errors; empty for valid variables. The document must be valid. */
export function variableErrors(
  schema: GraphQLSchema,
  { variableDefinitions = [] }: OperationDefinitionNode,
  variables: Readonly<Record<string, unknown>>,
): GraphQLError[] {
  const errors: GraphQLError[] = []
  for (const definition of variableDefinitions) {
    if (errors.length >= maxErrors) break
    const name = definition.variable.name.value
    const type = typeFromAST(schema, definition.type as never) as GraphQLInputType | undefined
    if (!isInputType(type)) continue
    if (name === '__proto__') {
      // Libraries collect variables in plain objects, where its value is lost: a list would not be narrowed.
      errors.push(problem(`A variable cannot have the name "$${name}"; give it another one.`, definition))
      continue
    }
    const given = Object.hasOwn(variables, name)
    if (given && variables[name] != null) {
      new Check(name, definition, errors).value(variables[name], type, [])
    } else if (isNonNullType(type) && (given || definition.defaultValue === undefined)) {
      const message = given
        ? `Variable "$${name}" of non-null type "${type}" must not be null.`
        : `Variable "$${name}" of required type "${type}" was not provided.`
      errors.push(problem(truncate(message), definition))
    }
  }
  return errors
}

class Check {
  readonly #name: string
  readonly #definition: VariableDefinitionNode
  readonly #errors: GraphQLError[]
  /** The input field that is checked, such as CommentInput.body. */
  #field = ''

  constructor(name: string, definition: VariableDefinitionNode, errors: GraphQLError[]) {
    this.#name = name
    this.#definition = definition
    this.#errors = errors
  }

  get #full(): boolean {
    return this.#errors.length >= maxErrors
  }

  value(value: unknown, type: GraphQLInputType, path: readonly (string | number)[]): void {
    if (this.#full) return
    if (isNonNullType(type)) {
      if (value == null) this.#fail(path, `Expected a value of the type "${type}", got null.`)
      else this.value(value, type.ofType, path)
    } else if (value == null) {
      return
    } else if (isListType(type)) {
      if (!Array.isArray(value)) this.value(value, type.ofType, path)
      else for (let i = 0; i < value.length && !this.#full; i++) this.value(value[i], type.ofType, [...path, i])
    } else if (isInputObjectType(type)) {
      this.#object(value, type, path)
    } else {
      this.#leaf(value, type, path)
    }
  }

  #object(value: unknown, type: GraphQLInputObjectType, path: readonly (string | number)[]): void {
    if (typeof value !== 'object' || Array.isArray(value)) {
      this.#fail(path, `Expected an object of the type "${type}", got ${kindOf(value)}.`)
      return
    }
    const fields = type.getFields()
    const given = value as Record<string, unknown>
    for (const key in given) {
      if (this.#full) return
      if (!Object.hasOwn(fields, key)) {
        this.#fail(path, `Field ${JSON.stringify(truncate(key, maxShownBytes))} is not defined by type "${type}".`)
      }
    }
    for (const field of Object.values(fields)) {
      this.#field = `${type}.${field.name}`
      if (Object.hasOwn(given, field.name)) this.value(given[field.name], field.type, [...path, field.name])
      else if (isRequiredInputField(field)) {
        this.#fail(path, `Field "${type}.${field.name}" of required type "${field.type}" was not provided.`)
      }
    }
  }

  #leaf(value: unknown, type: GraphQLLeafType, path: readonly (string | number)[]): void {
    // Custom scalars may accept any JSON.
    if (typeof value === 'object' && (isSpecifiedScalarType(type) || isEnumType(type))) {
      this.#fail(path, `${type} cannot represent ${kindOf(value)}.`)
      return
    }
    try {
      if (type.parseValue(value, true) === undefined) this.#fail(path, `Expected a value of the type "${type}".`)
    } catch (error) {
      this.#fail(path, truncate((error as Error).message, 300))
    }
  }

  #fail(path: readonly (string | number)[], why: string): void {
    if (this.#full) return
    const place = path.map((key) => (typeof key === 'number' ? `[${key}]` : `.${key}`)).join('')
    const field = this.#field.endsWith(`.${path.at(-1)}`) ? ` (${this.#field})` : ''
    const at = place ? ` at "${truncate(`${this.#name}${place}`, maxShownBytes)}"${field}` : ''
    this.#errors.push(
      problem(`Variable "$${truncate(this.#name, maxShownBytes)}" got invalid value${at}: ${why}`, this.#definition),
    )
  }
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

function problem(message: string, definition: VariableDefinitionNode): GraphQLError {
  return new GraphQLError(truncate(message), {
    nodes: [definition],
    extensions: { code: 'BAD_USER_INPUT', http: { status: httpStatus.BAD_USER_INPUT, spec: true } },
  })
}
