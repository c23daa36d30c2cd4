/** React's hooks over the client's stores. */
import { useCallback, useMemo, useState, useSyncExternalStore } from 'react'
import type { Follow, FollowOptions, FollowSnapshot } from './follow.ts'
import type { Save, SaveSnapshot } from './save.ts'
import type { ModelClient, Shape } from './shapes.ts'

/** Follows a model while the component is mounted; begins again where an option changes. */
export function useFollow<S extends Shape>(
  model: ModelClient<S>,
  options: FollowOptions<S['by']> = {},
): FollowSnapshot<S['row']> & Pick<Follow<S['row']>, 'loadOlder'> {
  // JSON has neither a BigInt nor undefined: a value that is missing must not mean all rows.
  const key = JSON.stringify(options, (_, one) => (typeof one === 'bigint' ? `${one}` : (one ?? null)))
  // The key stands for the options.
  const follow = useMemo(() => model.follow(options), [model, key])
  const snapshot = useSyncExternalStore(follow.subscribe, follow.getSnapshot, follow.getSnapshot)
  return { ...snapshot, loadOlder: follow.loadOlder }
}

const idle = { state: undefined, problem: undefined, row: undefined }
const never = () => () => {}

/** The state is that of the last save; undefined before the first one. */
export function useSave<S extends Shape>(
  model: ModelClient<S>,
): { save: ModelClient<S>['save'] } & (SaveSnapshot<S['row']> | typeof idle) {
  const [last, setLast] = useState<Save<S['row']>>()
  const save = useCallback<ModelClient<S>['save']>(
    (input, options) => {
      const made = model.save(input, options)
      setLast(made)
      return made
    },
    [model],
  )
  const getSnapshot = last?.getSnapshot ?? (() => idle)
  return {
    save,
    ...useSyncExternalStore<SaveSnapshot<S['row']> | typeof idle>(last?.subscribe ?? never, getSnapshot, getSnapshot),
  }
}
