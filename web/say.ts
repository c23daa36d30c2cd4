/** What a screen reader is to say by itself: short sentences, the newest one only. */
import { makeStore } from './store.ts'

export const said = makeStore({ text: '' })

export function say(text: string): void {
  said.set({ text })
}
