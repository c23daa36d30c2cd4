/** The token field: only there where the server asks for a token. */
import { useRef } from 'preact/hooks'
import { access, type Right, setToken } from '../access.ts'
import { reconnect } from '../feed.ts'
import { retryModels } from '../models.ts'
import { mayWrite } from '../outbox.ts'
import { look } from '../queue.ts'
import { useStore } from '../store.ts'

const needed: Record<Right, string> = { read: 'read rows', write: 'save', admin: 'see the queue and dead letters' }

export function Token() {
  const { on, token, problem, may } = useStore(access)
  const field = useRef<HTMLInputElement>(null)
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
        placeholder={token ? 'Another token' : 'Bearer token'}
        aria-describedby="token-state"
      />
      <button type="submit" class="primary">
        Use
      </button>
      {token && (
        <button type="button" onClick={() => use('')}>
          Forget
        </button>
      )}
      <span id="token-state" class={problem ? 'hint bad' : 'hint'}>
        {problem ||
          (mayNot.length > 0 ? `This token may not ${mayNot.join(', nor ')}.` : 'This token may do everything.')}
      </span>
    </form>
  )
}
