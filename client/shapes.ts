/**
 * The types of a server's models, from `typeof models` alone: each of them carries its shape in its type. This package imports no file of the server.
 */
import type { Follow, FollowOptions } from './follow.ts'
import type { Save } from './save.ts'

/** In the form of JSON: DateTime, BigInt, Decimal and Bytes (base64) are texts. */
export interface Shape {
  row: unknown
  input: object
  by: object
}

export interface ModelClient<S extends Shape = Shape> {
  /** `id`: a UUID, where the page has one already. A save is one row, however often it is sent under its id. */
  save(input: S['input'], options?: { id?: string | undefined }): Save<S['row']>
  /** Begins with the first subscriber or iterator. */
  follow(options?: FollowOptions<S['by']>): Follow<S['row']>
}

interface Typed<Name extends string = string> {
  readonly shape?: Shape & { name: Name }
}

/** Without `typeof models`, every model and every column passes. */
// biome-ignore lint/suspicious/noExplicitAny: nothing is known of the models.
type Loose = ModelClient<{ row: any; input: Record<string, any>; by: Record<string, any> }>
export type AnyModels = 'any'

export type ModelsOf<M> = M extends AnyModels
  ? { readonly [model: string]: Loose }
  : M extends readonly (infer T)[]
    ? {
        readonly [One in T as One extends Typed<infer Name> ? Uncapitalize<Name> : never]: One extends {
          readonly shape?: infer S extends Shape
        }
          ? ModelClient<S>
          : Loose
      }
    : never
