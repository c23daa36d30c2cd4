let last = 0

/**
 * A UUIDv7, greater than the one before: rows of one batch have one `createdAt`, and lists then sort by id. A clock that is wrong costs
 * nothing else.
 */
export function uuidv7(): string {
  // In 1,024ths of a millisecond.
  last = Math.max(last + 1, Date.now() * 1_024)
  const hex = (value: number, digits: number) => Math.floor(value).toString(16).padStart(digits, '0')
  const time = hex(last / 1_024, 12)
  // crypto.randomUUID exists in secure contexts only.
  const random = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => hex(byte, 2)).join('')
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex((last % 1_024) * 4, 3)}-8${random.slice(0, 3)}-${random.slice(3, 15)}`
}
