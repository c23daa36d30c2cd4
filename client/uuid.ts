/** A UUIDv7: the server's indexes like ids that grow with time. A clock that is wrong costs nothing else. */
export function uuidv7(): string {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0')
  const time = hex(Math.max(0, Date.now()), 12)
  // crypto.randomUUID exists in secure contexts only.
  const random = Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => hex(byte, 2)).join('')
  return `${time.slice(0, 8)}-${time.slice(8)}-7${random.slice(0, 3)}-8${random.slice(3, 6)}-${random.slice(6)}`
}
