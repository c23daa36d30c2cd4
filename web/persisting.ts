/** Pause and resume of persisting. */
import { ask, problemOf, textOf } from './client.ts'
import { PausePersisting, ResumePersisting } from './operations.ts'
import { look } from './queue.ts'
import { makeStore } from './store.ts'

export const persisting = makeStore({
  busy: false,
  /** Why the last try failed. */
  problem: '',
})

export const pausePersisting = (): Promise<boolean> => change(() => ask(PausePersisting, 'admin', {}))

export const resumePersisting = (): Promise<boolean> => change(() => ask(ResumePersisting, 'admin', {}))

/** Whether it was done. The status of the queue follows. */
async function change(act: () => Promise<unknown>): Promise<boolean> {
  if (persisting.get().busy) return false
  persisting.set({ busy: true, problem: '' })
  try {
    await act()
    persisting.set({ busy: false, problem: '' })
    return true
  } catch (error) {
    persisting.set({ busy: false, problem: textOf(problemOf(error)) })
    return false
  } finally {
    look()
  }
}
