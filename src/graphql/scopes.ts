/**
 * The scopes that an operation needs: found once per document from every field that it selects, and checked before the operation is executed,
 * over HTTP, SSE and WebSocket alike. `extensions: { scope }` declares the scope of an object type, and an additional scope of a field; 'any'
 * means none. Without a declaration, a root field, a type, and a field with its own resolver on a type of scope 'any' need `admin`.
 */
import { type GraphQLSchema, getNamedType } from 'graphql'
import { SpillwayError } from '../model/error.ts'
import type { Grant, Scope } from '../model/grant.ts'
import { isPlain, objectTypes, type Reached } from './reach.ts'

/** Scopes, each with the first field that needs it. */
export type Needs = ReadonlyMap<Scope, string>

export function scopesOf(schema: GraphQLSchema, reached: readonly Reached[]): Needs {
  const needs = new Map<Scope, string>()
  for (const { type, field } of reached) {
    for (const scope of scopesOfField(schema, { type, field })) {
      if (!needs.has(scope)) needs.set(scope, `${type.name}.${field.name}`)
    }
  }
  return needs
}

function scopesOfField(schema: GraphQLSchema, { type, field }: Reached): Scope[] {
  const isRoot = [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()].includes(type)
  const types = objectTypes(schema, getNamedType(field.type))
  const scopes = types.map(({ extensions }) => declaredScope(extensions) ?? 'admin')
  const own = declaredScope(field.extensions)
  if (own !== undefined) scopes.push(own)
  else if (isRoot) scopes.push('admin')
  else if (types.length === 0 && !isPlain(field) && (declaredScope(type.extensions) ?? 'any') === 'any')
    scopes.push('admin')
  return scopes.filter((scope) => scope !== 'any')
}

function declaredScope(extensions: Readonly<Record<string, unknown>>): Scope | 'any' | undefined {
  return extensions.scope as Scope | 'any' | undefined
}

export function covers(grant: Grant, needs: Needs): boolean {
  for (const scope of needs.keys()) if (!grant.scopes.has(scope)) return false
  return true
}

/** Throws FORBIDDEN if the grant lacks a scope; the message names the scope and the field. */
export function checkScopes(grant: Grant, needs: Needs): void {
  const missing = [...needs].filter(([scope]) => !grant.scopes.has(scope))
  if (missing.length === 0) return
  const list = missing.map(([scope, field]) => `${JSON.stringify(scope)} (for ${field})`).join(' and ')
  throw new SpillwayError('FORBIDDEN', `This needs a token with the scope ${list}.`)
}
