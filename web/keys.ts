/** The keys of the page: single ones, while nothing is typed and no dialog is open. A section is reached with g and its letter. */
import { makeStore } from './store.ts'

export const keys = makeStore({ helps: false })

/** By the second key: what it is called, and the heading or the field that it goes to. */
export const places: Record<string, { name: string; ids: readonly string[] }> = {
  s: { name: 'the status', ids: ['status-title', 'queue-title'] },
  d: { name: 'the dead letters', ids: ['letters-title'] },
  f: { name: 'the live feed', ids: ['feed-title'] },
  v: { name: 'the form that saves', ids: ['save-title'] },
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
    if (goes && places[key]) go(places[key].ids)
    else if (key === 'g') goesUntil = performance.now() + secondWithinMs
    else if (key === '/') document.getElementById('find-input')?.focus()
    else if (key === '?') keys.set({ helps: true })
    else return
    event.preventDefault()
  })
}

/** The first of them that the page has. */
function go(ids: readonly string[]): void {
  const heading = ids.map((id) => document.getElementById(id)).find((one) => one !== null)
  const section = heading?.closest<HTMLElement>('section')
  if (!heading || !section) return
  const place = section.querySelector<HTMLElement>('form.save [id^="column-"], .rows') ?? heading
  if (place === heading) heading.tabIndex = -1
  section.scrollIntoView({ block: 'nearest' })
  place.focus()
}
