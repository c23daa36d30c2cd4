/** The keys of the page: single ones, while nothing is typed and no dialog is open. A section is reached with g and its letter. */
import { makeStore } from './store.ts'

export const keys = makeStore({ helps: false })

/** By the second key: what it is called, and what gets the focus. */
export const places: Record<string, { name: string; selector: string }> = {
  s: { name: 'the status', selector: '.status' },
  d: { name: 'the dead letters', selector: '#letters' },
  f: { name: 'the live feed', selector: '.feed .rows' },
  v: { name: 'the form that saves', selector: 'form.save [id^="column-"]' },
}

const secondWithinMs = 1_500

export function watchKeys(): void {
  let goesUntil = 0
  document.addEventListener('keydown', (event) => {
    const { key, target, ctrlKey, metaKey, altKey, isComposing } = event
    const isTyped = (target as Element).closest?.('input, textarea, select, [contenteditable], dialog')
    if (ctrlKey || metaKey || altKey || isComposing || isTyped || document.querySelector('dialog[open]')) return
    const goes = performance.now() < goesUntil
    goesUntil = 0
    if (goes && places[key]) go(places[key].selector)
    else if (key === 'g') goesUntil = performance.now() + secondWithinMs
    else if (key === '/') document.getElementById('find-input')?.focus()
    else if (key === '?') keys.set({ helps: true })
    else return
    event.preventDefault()
  })
}

function go(selector: string): void {
  const place = document.querySelector<HTMLElement>(selector)
  if (!place) return
  // A section is reached by no Tab.
  if (place.tabIndex < 0) place.tabIndex = -1
  place.focus()
}
