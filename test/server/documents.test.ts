/** The cache of compiled documents: as many different ones as clients send in turns. */
import { createSchema, createYoga } from 'graphql-yoga'
import { describe, expect, test } from 'vitest'
import { type Document, Documents } from '../../src/graphql/documents.ts'

const columns = Array.from({ length: 15 }, (_, i) => `column${i}`)
const schema = createSchema({
  typeDefs: `
    type Node { ${columns.map((name) => `${name}: String`).join(' ')} }
    type Query { nodes(first: Int): [Node] }
  `,
})

/** Documents of some 160 characters, which differ in an alias. */
const queries = (count: number) =>
  Array.from({ length: count }, (_, n) => `{ page${n}: nodes(first: 50) { ${columns.join(' ')} } }`)

class Sending {
  readonly #documents = new Documents(createYoga({ schema, logging: false }))
  readonly #queries: readonly string[]

  constructor(count: number) {
    this.#queries = queries(count)
  }

  /** Sends all documents once. Returns those that are compiled. */
  send(): Set<Document> {
    const found = this.#queries.map((query) => this.#documents.get({ query, operationName: undefined, variables: {} }))
    return new Set(found.filter((document) => document !== null))
  }
}

const newIn = (found: ReadonlySet<Document>, before: ReadonlySet<Document>) =>
  [...found].filter((document) => !before.has(document)).length

describe('Documents that are sent in turns', { timeout: 60_000 }, () => {
  test('a thousand are compiled the second time, and kept', () => {
    const sending = new Sending(1_000)
    expect(sending.send().size).toBe(0)
    const compiled = sending.send()
    expect(compiled.size).toBe(1_000)
    expect(newIn(sending.send(), compiled)).toBe(0)
  })

  test('of more than there is room for, most of those that were compiled stay', () => {
    const sending = new Sending(1_800)
    sending.send()
    const compiled = sending.send()
    expect(compiled.size).toBeGreaterThan(900)
    for (let round = 0; round < 3; round++) {
      const again = sending.send()
      // New ones took the place of some.
      expect(newIn(again, compiled)).toBeLessThan(150)
      expect(again.size - newIn(again, compiled)).toBeGreaterThan(700)
    }
  })
})
