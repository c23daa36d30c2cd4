/** Where an outbox keeps its saves, so that they survive a reload. Any of the calls may throw or reject: the outbox then goes on in memory. */

/** A save that the server has not acknowledged. */
export interface Entry {
  id: string
  /** As behind `client.`: the model's name with a small first letter. */
  model: string
  input: Readonly<Record<string, unknown>>
  /** Who sends it. */
  tab: string
  /** Its place in the order of its tab. */
  at: number
}

export interface Storage {
  /** In any order. */
  all(): readonly Entry[] | Promise<readonly Entry[]>
  /** Replaces the entry with this id. */
  put(entry: Entry): unknown
  /** No entry with this id is no error. */
  delete(id: string): unknown
}

/**
 * One item for each save; browsers keep about 5 MB a site. Give each user a name of its own where several users share a
 * browser, so that the saves of one are not sent with the token of another. Invariant: the first `put` after the site's data were cleared throws.
 */
export function localStorageOutbox(name = 'outbox'): Storage {
  // Quoted, so that no name is the beginning of another one.
  const mark = `spillway ${JSON.stringify(name)}`
  const prefix = `${mark} `
  let marked = false
  return {
    all() {
      // It throws where a site may keep nothing.
      localStorage.setItem(mark, '1')
      marked = true
      return Object.keys(localStorage)
        .filter((key) => key.startsWith(prefix))
        .map((key) => JSON.parse(localStorage.getItem(key)!))
    },
    put(entry) {
      const isCleared = marked && localStorage.getItem(mark) === null
      localStorage.setItem(mark, '1')
      localStorage.setItem(prefix + entry.id, JSON.stringify(entry))
      if (isCleared) throw new Error('cleared')
    },
    delete: (id) => localStorage.removeItem(prefix + id),
  }
}

/** As localStorageOutbox, for more than localStorage can keep. */
export function indexedDbOutbox(name = 'outbox'): Storage {
  let opening: Promise<IDBDatabase> | undefined
  const open = () =>
    new Promise<IDBDatabase>((resolve, reject) => {
      const request = indexedDB.open(`spillway.${name}`)
      request.onupgradeneeded = () => request.result.createObjectStore('saves', { keyPath: 'id' })
      request.onerror = reject
      request.onsuccess = () => {
        const database = request.result
        // The site's data are to be cleared: the next call fails, and the one after it opens a new database.
        database.onversionchange = () => database.close()
        resolve(database)
      }
    })
  const call = async <T>(make: (saves: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    try {
      opening ??= open()
      const transaction = (await opening).transaction('saves', 'readwrite')
      const request = make(transaction.objectStore('saves'))
      return await new Promise((resolve, reject) => {
        transaction.oncomplete = () => resolve(request.result)
        transaction.onabort = reject
      })
    } catch (error) {
      opening = undefined
      throw error
    }
  }
  return {
    all: () => call((saves) => saves.getAll() as IDBRequest<Entry[]>),
    put: (entry) => call((saves) => saves.put(entry)),
    delete: (id) => call((saves) => saves.delete(id)),
  }
}
