/** With introspection off, no response contains names of the schema: introspection is refused, and errors suggest no names (FC12). */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { bootInProcess, type InProcess } from '../harness/boot.ts'
import { eventually } from '../harness/eventually.ts'

let api: InProcess
beforeAll(async () => {
  api = await bootInProcess({ INTROSPECTION: 'off' })
})
afterAll(() => api?.stop())

const saveMany = 'mutation ($v: [ContentInput!]!) { saveMany(inputs: $v) { saveId } }'
test.each<[string, string, Record<string, unknown>, RegExp]>([
  ['a field', '{ content1 { id } }', {}, /contents/],
  ['a field of a type', '{ contents { edges { node { contentt } } } }', {}, /"content"/],
  ['a field without a selection', '{ contents }', {}, /\{ \.\.\. \}/],
  ['an argument', '{ contents(firs: 1) { edges { cursor } } }', {}, /first/],
  ['a type', '{ contents { ... on ContentConnectio { edges { cursor } } } }', {}, /"ContentConnection"/],
  ['a type of a variable', 'query ($v: ContentInpu) { __typename }', {}, /"ContentInput"/],
  ['a field of an input', 'mutation { saveMany(inputs: [{ contentt: "x" }]) { id } }', {}, /"content"(?! of required)/],
  ['a field of an input in variables', saveMany, { v: [{ content: 'x', contentt: 'x' }] }, /"content"/],
  ['a directive', '{ __typename @includ(if: true) }', {}, /"@?include"/],
  ['the schema', '{ __schema { types { name } } }', {}, /ContentInput/],
  ['a type by name', '{ __type(name: "Content") { fields { name } } }', {}, /savedAt/],
])('no answer suggests a name for a mistake in %s', async (_what, query, variables, name) => {
  const answers: string[] = []
  for (const accept of ['application/json', 'application/graphql-response+json', 'text/event-stream']) {
    for (let i = 0; i < 3; i++) {
      const response = await fetch(`${api.url}/graphql`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept },
        body: JSON.stringify({ query, variables }),
      })
      answers.push(await response.text())
    }
  }
  const client = await api.client.ws()
  client.subscribe('x', query, variables)
  answers.push(JSON.stringify(await eventually(() => client.of('x')[0])))
  client.close()
  for (const answer of answers) {
    expect(answer).toMatch(/"message"/)
    expect(answer).not.toMatch(/Did you mean|[Ss]uggest/)
    expect(answer.replaceAll('\\"', '"')).not.toMatch(name)
  }
})
