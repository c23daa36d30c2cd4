/** The title and the icon of the document: what is wrong can be seen in a tab that nobody looks at. */

import { count } from './format.ts'
import badIcon from './icon-bad.svg'
import warnIcon from './icon-warn.svg'
import { queue } from './queue.ts'
import { shown } from './status.ts'

export function watchTitle(): void {
  const icon = document.querySelector<HTMLLinkElement>('link[rel=icon]')!
  const goodIcon = icon.href
  const update = () => {
    const [worst] = shown.get().notices
    const letters = queue.get().status?.deadLetters ?? 0
    const trouble = worst?.level === 'bad' ? `⚠ ${worst.short} · ` : ''
    const title = `${letters > 0 ? `(${count(letters)}) ` : ''}${trouble}Spillway`
    const wanted = trouble ? badIcon : worst || letters > 0 ? warnIcon : goodIcon
    if (document.title !== title) document.title = title
    if (icon.getAttribute('href') !== wanted) icon.setAttribute('href', wanted)
  }
  queue.follow(update)
  shown.follow(update)
}
