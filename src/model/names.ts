/** The names of a model in GraphQL and REST, and the names that Spillway uses itself. */
import type { Names } from './model.ts'

/** Those that are not given are made of the model's name, `one` and `many`. */
export function namesOf(name: string, given: Partial<Names>, problem: (text: string) => Error): Names {
  const { one = name[0]!.toLowerCase() + name.slice(1), many = plural(one) } = given
  const made: Names = {
    one,
    many,
    save: `save${name}`,
    saveMany: `save${many.slice(0, 1).toUpperCase()}${many.slice(1)}`,
    saved: `${one}Saved`,
    savePath: `/${many}`,
    listPath: `/${many}`,
    flat: false,
  }
  const misspelt = Object.keys(given).find((key) => !Object.hasOwn(made, key))
  if (misspelt !== undefined) {
    const known = Object.keys(made).filter((key) => key !== 'flat')
    throw problem(`names has ${misspelt}; expected one of ${known.join(', ')}`)
  }
  const names = { ...made, ...given }
  for (const [key, value] of Object.entries(names)) {
    const isPath = key.endsWith('Path')
    const isFit = typeof value === 'boolean' || (isPath ? /^\/[\w.-]*$/ : /^(?!__)[A-Za-z_]\w*$/).test(value)
    const expected = isPath ? 'a / and then letters, digits, _ . and -' : 'letters, digits and _, as GraphQL has names'
    if (!isFit) throw problem(`names has ${key}: ${JSON.stringify(value)}; expected ${expected}`)
  }
  return names
}

function plural(word: string): string {
  if (/[^aeiou]y$/.test(word)) return `${word.slice(0, -1)}ies`
  return /(s|x|z|ch|sh)$/.test(word) ? `${word}es` : `${word}s`
}

/** `created_at` is in the lists of REST, `waitMs` an argument beside columns; the others are arguments of lists. */
export function isReserved(name: string, narrows: boolean): boolean {
  // Such as `constructor`: every object has it.
  if (name in {} || name === 'created_at' || name === 'waitMs') return true
  return narrows && ['first', 'last', 'before', 'after'].includes(name)
}

/** By root type: a query, a mutation and a subscription may have one name. */
export const reservedNames = {
  query: [
    ...['node', 'receipt', 'receipts', 'queue', 'deadLetters'],
    ...['saveLookup', 'queueConditions', 'queueWorkers', 'queueHistory'],
  ],
  mutation: [
    ...['retryDeadLetters', 'discardDeadLetters', 'editDeadLetter'],
    ...['pausePersisting', 'resumePersisting'],
  ],
  subscription: ['deadLettered', 'receipt', 'receipts', 'queue'],
}
export const reservedTypes =
  'Query Mutation Subscription Node Receipt ReceiptStatus Failure Queue Durability DeadLetter DeadLetterConnection DeadLetterEdge DeadLetterFilter DeadLetterChange DeadLetterCodeCount DeadLetterModelCount DeadLettered SaveLookup QueueCondition QueueConditionKind QueueWorker QueueWorkerError QueueWorkerState QueueWorkerHeld QueuePause QueueHistory QueueHistoryPoint QueueHistoryRange QueueDurations PageInfo DateTime JSON BigInt Decimal Bytes String Int Float Boolean ID'.split(
    ' ',
  )
/** Fields beside the row, in receipts and events. */
export const reservedFields = [
  'id',
  'saveId',
  'model',
  'status',
  'duplicate',
  'acceptedAt',
  'conflicts',
  'failure',
  'cursor',
]
export const reservedPaths = ['/graphql', '/livez', '/readyz', '/metrics', '/receipts', '/models.json', '/openapi.json']
