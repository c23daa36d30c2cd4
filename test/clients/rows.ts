import { expect } from 'vitest'
import type { Client } from '../harness/client.ts'

/** Saves a content as another client does, and waits for its row. */
export async function saveRow(client: Client, content: string): Promise<void> {
  const mutation = 'mutation ($content: String!) { save(content: $content, waitMs: 20000) { saveId status } }'
  const { body } = await client.graphql(mutation, { content })
  expect(body).toMatchObject({ data: { save: { status: 'SAVED' } } })
}
