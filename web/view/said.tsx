/** What the last action did, at the lower edge of the window. */
import { said, say } from '../say.ts'
import { useStore } from '../store.ts'

export function Said() {
  const { text, isProblem, nth } = useStore(said)
  return (
    <div class={`said ${text && 'shown'} ${isProblem && 'problem'}`}>
      {/* Both are there before their text is: a region that comes with its text may not be read. */}
      <p role="status">{!isProblem && <span key={nth}>{text}</span>}</p>
      <p role="alert">{isProblem && <span key={nth}>{text}</span>}</p>
      {text && (
        <button type="button" class="dismiss" aria-label="Dismiss the message" onClick={() => say('')}>
          ×
        </button>
      )}
    </div>
  )
}
