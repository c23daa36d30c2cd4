/** Pause and resume of persisting. */
import { ask, problemOf, textOf } from './client.ts'
import { PausePersisting, ResumePersisting } from './operations.ts'
import { look, queue } from './queue.ts'
import { makeStore } from './store.ts'

export const persisting = makeStore({
  busy: false,
  /** Why the last try failed. */
  problem: '',
})

export const pausePersisting = (): Promise<boolean> =>
  change(async () => (await ask(PausePersisting, 'admin', {})).pausePersisting)

export const resumePersisting = (): Promise<boolean> =>
  change(async () => (await ask(ResumePersisting, 'admin', {})).resumePersisting)

/** Whether it was done. */
async function change(act: () => Promise<ReturnType<typeof queue.get>['status'] | null>): Promise<boolean> {
  if (persisting.get().busy) return false
  persisting.set({ busy: true, problem: '' })
  try {
    const status = await act()
    if (status) queue.patch({ status })
    persisting.set({ busy: false, problem: '' })
    return true
  } catch (error) {
    persisting.set({ busy: false, problem: textOf(problemOf(error)) })
    return false
  } finally {
    look()
  }
}
