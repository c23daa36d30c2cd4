/** The saves that the load is made of. */
import { requestOf } from './client.ts'

export const contentLength = 100
const alphabet = 'abcdefghijklmnopqrstuvwxyz     '
const saveDocument = 'mutation ($content: String!) { save(content: $content) { saveId status } }'
const saveManyDocument = 'mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId status } }'
/** So many different requests are sent in turns. */
const variants = 200

export function contentOf(n: number, length = contentLength): string {
  const text = Array.from({ length }, (_, i) => alphabet[(n * 7 + i * (n % 13) + i * i) % alphabet.length])
  return text.join('')
}

export const graphqlSaves = (url: string, length = contentLength): Buffer[] =>
  requests((n) => graphqlSave(url, contentOf(n, length)))
export const graphqlSave = (url: string, content: string): Buffer =>
  requestOf(url, '/graphql', JSON.stringify({ query: saveDocument, variables: { content } }))
export const restSaves = (url: string): Buffer[] =>
  requests((n) => requestOf(url, '/save', JSON.stringify({ content: contentOf(n) })))
export const graphqlSaveManys = (url: string, size: number): Buffer[] =>
  requests((n) => requestOf(url, '/graphql', saveManyBody(size, n)))
export const saveManyBody = (size: number, n: number): string =>
  JSON.stringify({
    query: saveManyDocument,
    variables: { inputs: Array.from({ length: size }, (_, i) => ({ content: contentOf(n * size + i) })) },
  })

function requests(make: (n: number) => Buffer): Buffer[] {
  return Array.from({ length: variants }, (_, n) => make(n))
}

export function checkGraphqlSave(body: string): void {
  const { data, errors } = JSON.parse(body)
  if (errors || !/^[0-9a-f-]{36}$/.test(data.save.saveId) || data.save.status !== 'QUEUED')
    throw new Error(`a save was answered with ${body.slice(0, 500)}`)
}

export function checkRestSave(body: string): void {
  const { id, status } = JSON.parse(body)
  if (!/^[0-9a-f-]{36}$/.test(id) || status !== 'QUEUED')
    throw new Error(`a save was answered with ${body.slice(0, 500)}`)
}

export function checkSaveMany(size: number): (body: string) => void {
  return (body) => {
    const { data, errors } = JSON.parse(body)
    if (errors || data.saveMany.length !== size) throw new Error(`saveMany was answered with ${body.slice(0, 500)}`)
  }
}
