/**
 * What a retry or a discard asks, does and did, below the buttons that began it. It has its place before there is anything to say, so that no
 * button comes under the pointer where another one was.
 */
import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { type At, confirm, dismiss, run } from '../run.ts'
import { useStore } from '../store.ts'

/** `children`: shown while there is nothing to say. */
export function RunStrip({ at, children }: { at: At; children?: ComponentChildren }) {
  const { current } = useStore(run)
  const strip = useRef<HTMLDivElement>(null)
  const cancel = useRef<HTMLButtonElement>(null)
  const before = useRef<HTMLElement | null>(null)
  const shown = current?.at === at ? current : undefined
  const state = shown?.state
  useEffect(() => {
    if (state === 'counting') before.current = document.activeElement as HTMLElement | null
    // The first one: Enter does no harm.
    else if (state === 'asking') cancel.current?.focus()
    else if (state === 'running') strip.current?.focus()
  }, [state])
  const end = () => {
    dismiss()
    if (before.current?.isConnected) before.current.focus()
  }
  const isLoud = shown?.kind === 'discard' && state === 'asking'
  const text = shown?.text ?? ''
  return (
    <div class={`run ${state ?? ''} ${isLoud ? 'loud' : ''}`} ref={strip} tabIndex={-1} data-run={state}>
      <p role="status">{state !== 'failed' && !isLoud && text}</p>
      <p role="alert">{(state === 'failed' || isLoud) && text}</p>
      {!shown && children}
      {shown?.state === 'asking' && (
        <div class="buttons">
          <button type="button" ref={cancel} onClick={end}>
            {shown.kind === 'retry' ? 'Cancel' : 'Keep'}
          </button>
          <button
            type="button"
            class={shown.kind === 'retry' ? 'primary' : 'danger filled'}
            onClick={() => void confirm()}
          >
            {shown.kind === 'retry' ? 'Retry' : 'Delete permanently'}
          </button>
        </div>
      )}
      {(state === 'done' || state === 'failed') && (
        <button type="button" class="dismiss" aria-label="Dismiss" onClick={end}>
          ×
        </button>
      )}
    </div>
  )
}
