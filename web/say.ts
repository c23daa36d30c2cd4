/** What an action did: shown until the next one, or until it is dismissed, and read aloud once. */
import { makeStore } from './store.ts'

/** `nth`: the same text twice is read aloud twice. */
export const said = makeStore({ text: '', isProblem: false, nth: 0 })

/** `isProblem`: read aloud at once, whatever is being read. */
export function say(text: string, { isProblem = false } = {}): void {
  said.set({ text, isProblem, nth: said.get().nth + 1 })
}
