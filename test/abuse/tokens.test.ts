/** Tokens that make the process hold bytes: the claims of a cached token may take 20 times the bytes of the token. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { client } from '../harness/client.ts'
import { inspect } from '../harness/inspected.ts'
import { secret, tokenOf } from '../harness/tenants.ts'

test('Cached tokens and their claims hold at most 64 MiB (P9)', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-tokens-'))
  const files = { DATABASE_URL: `file:${dir}/store.db`, QUEUE_URL: `file:${dir}/queue.db` }
  const api = await inspect({ ...files, AUTH_JWT_SECRET: secret })
  try {
    const send = async (number: number) => {
      const claims = { sub: `subject ${number}`, groups: Array.from({ length: 1_900 }, () => ({})) }
      const { body } = await client(api.url, await tokenOf(claims)).graphql('{ __typename }')
      expect(body).toEqual({ data: { __typename: 'Query' } })
    }
    const before = (await api.holding()).bytes
    for (let i = 0; i < 100; i++) await Promise.all(Array.from({ length: 16 }, (_, j) => send(i * 16 + j)))
    const heldMb = ((await api.holding()).bytes - before) / 2 ** 20
    console.log(`1,600 tokens with 1,900 empty objects each: ${heldMb.toFixed(0)} MB held`)
    // Without the bound: 190 MB.
    expect(heldMb).toBeLessThan(110)
  } finally {
    await api.stop()
    await rm(dir, { recursive: true, force: true })
  }
}, 120_000)
