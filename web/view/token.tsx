/** The token field: only there where the server asks for a token. */
import { useRef, useState } from 'preact/hooks'
import { access, type Right, setToken } from '../access.ts'
import { forgetFeed, reconnect } from '../feed.ts'
import { plural } from '../format.ts'
import { retryModels } from '../models.ts'
import { mayWrite, unsent } from '../outbox.ts'
import { look } from '../queue.ts'
import { useStore } from '../store.ts'
import { Dialog } from './dialog.tsx'

const needed: Record<Right, string> = { read: 'read rows', write: 'save', admin: 'see the queue and dead letters' }

export function Token() {
  const { on, token, problem, may } = useStore(access)
  const field = useRef<HTMLInputElement>(null)
  const [asking, ask] = useState(0)
  if (!on) return null
  const mayNot = (Object.keys(needed) as Right[]).filter((right) => !may[right]).map((right) => needed[right])
  const use = (text: string) => {
    setToken(text)
    reconnect()
    look()
    retryModels()
    void mayWrite()
  }
  return (
    <form
      class="panel token"
      aria-label="Access"
      onSubmit={(event) => {
        event.preventDefault()
        use(field.current!.value)
        field.current!.value = ''
      }}
    >
      <label for="token">Token</label>
      <input
        id="token"
        ref={field}
        type="password"
        autocomplete="off"
        spellcheck={false}
        placeholder={token ? 'Another token (JWT)' : 'A token (JWT)'}
        aria-describedby="token-state"
      />
      <button type="submit" class="primary">
        Use
      </button>
      {token && (
        <button type="button" onClick={() => (unsent() > 0 ? ask(unsent()) : forget())}>
          Forget
        </button>
      )}
      {asking > 0 && (
        <Dialog title="Forget the token?" close={() => ask(0)}>
          <p>{plural(asking, 'save')} of this page may not have reached the server, and will not be sent again.</p>
          <div class="buttons end">
            <button type="button" onClick={() => ask(0)}>
              Keep
            </button>
            <button type="button" class="danger" onClick={forget}>
              Forget
            </button>
          </div>
        </Dialog>
      )}
      <span id="token-state" class={problem ? 'hint bad' : 'hint'}>
        {problem ||
          (mayNot.length > 0 ? `This token may not ${mayNot.join(', nor ')}.` : 'This token may do everything.')}
      </span>
    </form>
  )
}

/** Everything that was shown with it goes, too: the page begins anew. */
function forget(): void {
  forgetFeed()
  sessionStorage.clear()
  location.reload()
}

const panels: Record<Right, string> = { read: 'Live feed', write: 'Save', admin: 'Queue and dead letters' }

/** In the place of a panel that the token does not allow. */
export function Missing({ right }: { right: Right }) {
  const { token, problem, may } = useStore(access)
  if (!token || problem || may[right]) return null
  return (
    <section class="panel missing" aria-labelledby={`missing-${right}`}>
      <h2 id={`missing-${right}`}>{panels[right]}</h2>
      <p class="hint">
        This token lacks the scope <code>{right}</code>. With it you may {needed[right]} here.
      </p>
    </section>
  )
}
