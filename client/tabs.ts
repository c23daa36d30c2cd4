/**
 * Which tab sends which saves. Each tab sends its own, and holds a Web Lock as long as it lives; when its lock is free, one of the others
 * takes its saves over. Invariant: of tabs with Web Locks, one sends a save. Without them (an insecure page, Node) the saves that are there at
 * the start are sent, maybe by two tabs: their ids make them one row each.
 */
import type { Entry, Storage } from './storage.ts'

/** Tabs that were opened later, and have been closed, are noticed in this time. */
const everyMs = 30_000

interface Deps {
  storage: Storage
  tab: string
  adopt(entries: readonly Entry[]): Promise<void>
  deny(): void
  closed: AbortSignal
}

export function shareOutbox({ storage, tab, adopt, deny, closed }: Deps): void {
  const { locks } = (globalThis.navigator ?? {}) as Partial<Navigator>
  const nameOf = (of: string) => `spillway.${of}`
  /** Tabs whose lock this one waits for. */
  const watched = new Set<string>([tab])

  async function look(): Promise<void> {
    let entries: readonly Entry[]
    try {
      entries = await storage.all()
      if (!locks) await adopt(entries)
    } catch {
      deny()
      return
    }
    if (!locks) return
    for (const { tab: other } of entries) {
      if (watched.has(other)) continue
      watched.add(other)
      const take = async () => {
        watched.delete(other)
        // Another tab may have been here before.
        await adopt((await storage.all()).filter((entry) => entry.tab === other))
      }
      locks.request(nameOf(other), { signal: closed }, take).catch(() => {})
    }
  }

  if (locks) {
    const closing = new Promise<void>((resolve) => closed.addEventListener('abort', () => resolve()))
    locks.request(nameOf(tab), () => closing).catch(() => {})
    const timer: ReturnType<typeof setInterval> & { unref?(): void } = setInterval(look, everyMs)
    // In Node it must not keep the process alive.
    timer.unref?.()
    void closing.then(() => clearInterval(timer))
  }
  void look()
}
