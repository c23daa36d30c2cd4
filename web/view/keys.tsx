/** What the keys do. */
import { keys, places } from '../keys.ts'
import { useStore } from '../store.ts'
import { Close, Dialog } from './dialog.tsx'

export function Keys() {
  const { helps } = useStore(keys)
  const close = () => keys.set({ helps: false })
  return (
    <div class="keys">
      <button type="button" class="link" onClick={() => keys.set({ helps: true })}>
        Keys
      </button>
      {helps && (
        <Dialog title="Keys" close={close}>
          <dl class="facts">
            <Key keys={['/']} does="find an id" />
            {Object.entries(places).map(([key, { name }]) => (
              <Key key={key} keys={['g', key]} does={`go to ${name}`} />
            ))}
            <Key keys={['?']} does="show these keys" />
            <Key keys={['Esc']} does="close a dialog" />
            <Key keys={['Enter']} does="save what is typed" />
          </dl>
          <Close close={close} />
        </Dialog>
      )}
    </div>
  )
}

function Key({ keys, does }: { keys: string[]; does: string }) {
  return (
    <div>
      <dt>
        {keys.map((key) => (
          <kbd key={key}>{key}</kbd>
        ))}
      </dt>
      <dd>{does}</dd>
    </div>
  )
}
