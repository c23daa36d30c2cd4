/**
 * `npm run conformance -- URL`: asks a server for what docs/protocol.md promises, for those who write a server, a client or a proxy between
 * them. Plain HTTP, whatever the models. Exits with 1 where a check fails.
 */
import { parseArgs } from 'node:util'
import { checks, runCheck } from './conformance/run.ts'
import type { Server } from './conformance/server.ts'
import { modelsOf, subjectOf } from './conformance/subject.ts'

const usage = `usage: npm run conformance -- URL [--token TOKEN] [--model NAME] [--input JSON] [--only WORD]
URL: of the server, such as http://127.0.0.1:8080. It writes about 100 rows, which stay.
--token: with the scopes read and write.
--model, --input: the model whose rows are written, and values of columns, such as '{"postId":"…"}'.
--only: the checks whose heading or title has this word.`

function readArguments() {
  try {
    const { positionals, values } = parseArgs({
      allowPositionals: true,
      options: {
        token: { type: 'string' },
        model: { type: 'string' },
        input: { type: 'string' },
        only: { type: 'string' },
      },
    })
    const [url, ...rest] = positionals
    if (!url || rest.length > 0 || !/^https?:/.test(url)) throw new Error('expected one URL')
    const { input = '{}', ...others } = values
    return { url: url.replace(/\/+$/, ''), given: JSON.parse(input), ...others }
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${usage}`)
  }
}

async function main(): Promise<void> {
  const { url, token, model: name, given, only = '' } = readArguments()
  const end = new AbortController()
  const server: Server = { url, token, signal: end.signal, withinMs: 30_000 }
  const subject = subjectOf(server, await modelsOf(server), { name, given })
  const { model, mark } = subject
  console.log(`This writes about 100 rows of ${model.name} to ${url}, with "${mark}" in their texts. They stay.`)
  const chosen = checks.filter(({ heading, title }) => `${heading} ${title}`.includes(only))
  const counts = { passed: 0, failed: 0, 'not run': 0 }
  for (const check of chosen) {
    const { outcome, reason } = await runCheck(check, subject)
    counts[outcome] += 1
    console.log(
      `${outcome.padEnd(7)}  ${check.heading}: the server ${check.title}${reason ? `\n         ${reason}` : ''}`,
    )
  }
  console.log(
    `${counts.passed} passed, ${counts.failed} failed, ${counts['not run']} not run. The headings are those of docs/protocol.md.`,
  )
  end.abort()
  if (counts.failed > 0 || counts.passed === 0) process.exitCode = 1
}

await main().catch((error) => {
  console.error(error.cause ? `${error.message}: ${error.cause.message}` : error.message)
  process.exitCode = 1
})
