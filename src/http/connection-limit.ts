/** How many connections a process may have: all of MAX_CONNECTIONS, or its part of it where several API processes share the port. */
import type { Server } from 'node:http'

/** Surplus connections that are accepted, to respond 503; above them, a connection is closed without a response. */
const surplusOfMachine = 500
/** A process that was full has room again when a twentieth of its connections has closed: it does not tell each close and each open. */
const roomPart = 20

/** The other API processes of the machine. */
export interface OtherProcesses {
  /** This process' part of a number for the machine; the parts of all processes make up the number. */
  part(ofMachine: number): number
  /** Tells whether this process is full. */
  setFull(isFull: boolean): void
  /** Calls back with whether all processes are full, whenever that changes. */
  onAllFull(listener: (areFull: boolean) => void): void
}

export class ConnectionLimit {
  readonly max: number
  readonly #others: OtherProcesses | undefined
  #isFull = false

  /** `others`: undefined where this is the only process. */
  constructor(ofMachine: number, others?: OtherProcesses) {
    this.max = others?.part(ofMachine) ?? ofMachine
    this.#others = others
  }

  watch(server: Server): void {
    const maxSurplus = this.#others?.part(surplusOfMachine) ?? surplusOfMachine
    // While another process has room, a full one takes no connection: the primary offers it to the next process.
    const takeSurplus = (doesTake: boolean) => {
      server.maxConnections = this.max + (doesTake ? maxSurplus : 0)
      // Of Node 23.1; its declarations lack it.
      Object.assign(server, { dropMaxConnection: doesTake })
    }
    takeSurplus(this.#others === undefined)
    this.#others?.onAllFull(takeSurplus)
    this.count(0)
  }

  /** Call when the number of open connections has changed. */
  count(open: number): void {
    const { max } = this
    const isFull = open >= (this.#isFull ? Math.min(max, max - Math.ceil(max / roomPart) + 1) : max)
    if (isFull === this.#isFull) return
    this.#isFull = isFull
    this.#others?.setFull(isFull)
  }
}
