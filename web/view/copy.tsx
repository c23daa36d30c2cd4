/** A button that copies a text. */
import { useState } from 'preact/hooks'

export function Copy({ text, of = '', label = 'Copy' }: { text: string; of?: string; label?: string }) {
  const [state, show] = useState<'' | 'Copied' | 'Not copied'>('')
  return (
    <button
      type="button"
      class="copy"
      aria-label={state === '' ? `${label} ${of}`.trim() : undefined}
      onClick={async () => show((await copied(text)) ? 'Copied' : 'Not copied')}
      onBlur={() => show('')}
    >
      {/* Both take their place, so that the button keeps its width. */}
      <span aria-hidden={state !== ''}>{label}</span>
      <span role="status">{state}</span>
    </button>
  )
}

async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    // Without HTTPS there is no clipboard API.
    addEventListener(
      'copy',
      (event) => {
        event.clipboardData?.setData('text/plain', text)
        event.preventDefault()
      },
      { once: true },
    )
    return document.execCommand('copy')
  }
}
