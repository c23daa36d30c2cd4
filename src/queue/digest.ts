import { hash } from 'node:crypto'

/** Tells contents apart: 132 bits of SHA-256, as 22 characters of base64url. */
export function digestOf(content: string): string {
  return hash('sha256', content, 'base64url').slice(0, 22)
}
