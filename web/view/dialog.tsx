/**
 * A modal dialog: the browser keeps the focus in it, closes it on Escape, and gives the focus back. `close` is called only while the dialog is
 * shown: the browser reports the end of one that was removed later, when another may be in its place.
 */
import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'

export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const element = dialog.current!
    element.showModal()
    return () => element.close()
  }, [])
  return (
    <dialog ref={dialog} aria-labelledby="dialog-title" onClose={() => dialog.current && close()}>
      <h2 id="dialog-title">{title}</h2>
      {children}
    </dialog>
  )
}

/** The last line of a dialog that only shows something. */
export function Close({ close }: { close: () => void }) {
  return (
    <div class="buttons end">
      <button type="button" onClick={close}>
        Close
      </button>
    </div>
  )
}
