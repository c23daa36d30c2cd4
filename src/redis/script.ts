/** The text of a Lua script for Redis: the common beginning (lua/checked.lua), then the given files, one after the other. */
import { readFileSync } from 'node:fs'

export function scriptOf(...files: readonly URL[]): string {
  return [new URL('lua/checked.lua', import.meta.url), ...files].map((file) => readFileSync(file, 'utf8')).join('\n')
}
