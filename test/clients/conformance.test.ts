/**
 * The conformance suite: it passes for both set-ups, and for models of another server, and it fails for a server that breaks one promise.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checks, type Result, runCheck } from '../../src/commands/conformance/run.ts'
import { modelsOf, subjectOf } from '../../src/commands/conformance/subject.ts'
import { type Consoles, serveConsoles } from '../console/consoles.ts'
import { boot, setUps } from '../harness/boot.ts'
import { launch } from '../harness/child.ts'
import { inherited } from '../harness/process.ts'
import { type Breakage, breakServer, isEvent } from './broken-server.ts'

let consoles: Consoles
let token: string
beforeAll(async () => {
  consoles = await serveConsoles()
  token = await consoles.served.token({ sub: 'someone', tenant: 'a' })
})
afterAll(() => consoles?.close())

/** The results of the checks whose titles have the word, at the server with tokens behind a proxy. */
async function results(breakage: Breakage, { only = '', withinMs = 30_000 } = {}): Promise<Result[]> {
  const end = new AbortController()
  const { url, close } = await breakServer(consoles.locked.url, breakage)
  try {
    const server = { url, token, signal: end.signal, withinMs }
    const subject = subjectOf(server, await modelsOf(server), {})
    const chosen = checks.filter(({ title }) => title.includes(only))
    return await Promise.all(chosen.map((check) => runCheck(check, subject)))
  } finally {
    end.abort()
    await close()
  }
}

test('docs/protocol.md has the heading of each check', () => {
  const page = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8')
  const headings = [...page.matchAll(/^##+ (.*)$/gm)].map(([, heading]) => heading)
  for (const { heading, title } of checks) expect(headings, title).toContain(heading)
})

// A busy machine takes its time.
describe.concurrent('npm run conformance', { timeout: 240_000 }, () => {
  test.each(setUps)('passes for a server of this project (%s)', async (setUp) => {
    const system = await boot(setUp, { workers: 1 })
    try {
      const program = fileURLToPath(new URL('../../src/commands/conformance.ts', import.meta.url))
      const { exited, logs } = launch(process.execPath, [program, system.url], { env: inherited() })
      expect(await exited, logs()).toBe(0)
      expect(logs()).toMatch(/^This writes about 100 rows of Content to http/)
      // There is no token, and nothing that lists of Content can be narrowed by.
      expect(logs()).toMatch(/ passed, 0 failed, 3 not run\./)
      const { data } = await system.client.graphql('{ contents(first: 1) { edges { node { content } } } }')
      expect(data.contents.edges[0].node.content).toMatch(/^\d+ conformance-[0-9a-f]{8}$/)
    } finally {
      await system.stop()
    }
  })

  test('passes for another server with other models and tokens, with every check', async () => {
    const all = await results({})
    expect(all.filter(({ outcome }) => outcome !== 'passed')).toEqual([])
  })

  const withJson = (change: (body: never) => unknown) => (text: string) =>
    text === '' ? text : JSON.stringify(change(JSON.parse(text) as never) ?? JSON.parse(text))
  const inputs = (change: (list: { id?: string }[]) => unknown) =>
    withJson((body: { variables: { inputs?: { id?: string }[] } }) => {
      const { inputs } = body.variables
      return inputs && { ...body, variables: { ...body.variables, inputs: change(inputs) } }
    })
  /** `withinMs`: where the server leaves out what the check waits for. */
  const cases: [string, Breakage, only: string, reason: RegExp, withinMs?: number][] = [
    [
      'drops every second event',
      { frames: (frames, count) => frames.filter((frame) => !isEvent(frame) || count++ % 2 === 0) },
      'a stream that begins at its savedCursor',
      /expected events of/,
      10_000,
    ],
    [
      'loses the `id:` lines of events',
      { frames: (frames) => frames.map((frame) => (isEvent(frame) ? frame.replace(/^id: .*\n/m, '') : frame)) },
      'in its `id:` line',
      /the `id:` line of an event is undefined/,
    ],
    [
      'sends events in another order',
      { frames: (frames) => frames.toReversed() },
      'greater than the one before',
      /the order of the cursors is/,
    ],
    [
      'ignores Last-Event-ID',
      { headers: (headers) => delete headers['last-event-id'] },
      'Last-Event-ID',
      /the id of the first event is/,
    ],
    [
      'ignores the argument `after`',
      {
        request: withJson((body: { variables: object }) => ({
          ...body,
          variables: { ...body.variables, after: null },
        })),
      },
      'resumes behind each cursor',
      /expected eight events|expected the events after/,
      10_000,
    ],
    [
      'sends no heartbeats',
      { frames: (frames) => frames.filter((frame) => frame.startsWith('id: ') && !isEvent(frame)).slice(0, 1) },
      'sends something at least',
      /expected a heartbeat/,
    ],
    [
      'does not complete streams',
      { frames: (frames) => frames.filter((frame) => !frame.includes('event: complete')) },
      'completes a subscription to receipts',
      /expected `event: complete`/,
      10_000,
    ],
    [
      'gives a narrowed stream every row',
      {
        request: (body) =>
          body.includes('subscription') ? body.replace('$postId: String, ', '').replace('postId: $postId, ', '') : body,
      },
      'narrows a page and a stream',
      /the ids of other rows is/,
    ],
    [
      'does not say that a save is a duplicate',
      { body: (text) => text.replaceAll('"duplicate":true', '"duplicate":false') },
      'as a duplicate, and saves one row',
      /duplicate of the same save is/,
    ],
    [
      'makes an id of its own for each save',
      { request: inputs((list) => list.map(({ id: _, ...input }) => input)) },
      'as a duplicate, and saves one row',
      /saveId and duplicate of the first save is/,
    ],
    [
      'enqueues a part of a batch',
      { request: inputs((list) => list.filter(({ id }) => id !== 'none')) },
      'refuses a batch as a whole',
      /the code in 200/,
    ],
    ['answers refusals with status 200', { status: () => 200 }, 'that is no UUID', /the status is 200; expected 400/],
    [
      'returns receipts in another order',
      {
        body: withJson((body: { data?: { receipts?: unknown[] } }) => {
          body.data?.receipts?.reverse()
          return body
        }),
      },
      'in the order of the ids',
      /the ids of the receipts is/,
    ],
  ]
  test.each(cases)('fails for a server that %s', async (_, breakage, only, reason, withinMs = 30_000) => {
    const all = await results(breakage, { only, withinMs })
    expect(all).toEqual([expect.objectContaining({ outcome: 'failed', reason: expect.stringMatching(reason) })])
  })
})
