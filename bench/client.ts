/**
 * The load: HTTP/1.1 over sockets of our own, keep-alive, one request at a time on each (no pipelining). It shares the cores with what it
 * measures, so it does as little as it can: a request is bytes that were made before, of a response only the frame, the status and the
 * beginning of the body are looked at. Invariant: a response that does not look like the one that was checked is an error, never a success.
 */
import { connect, type Socket } from 'node:net'
import { Samples } from './samples.ts'

export interface Load {
  url: string
  connections: number
  /** Whole requests (`requestOf`), taken in turns. */
  requests: readonly Buffer[]
  seconds: number
  /** Of the first response: throws when it is not what was asked for. */
  check(body: string): void
  /** Requests a second, whether or not the server keeps up; a request that waits for a free connection is late all the same. Without
   *  it each connection sends as soon as it was answered. */
  rate?: number
  /** A paced load calls it for each request, just before it is sent, with when it was due. */
  onSend?(index: number, due: number): void
  /** Measured from here on; what is sent before is for warming up. */
  warmUpSeconds?: number
  /** Reads what else is measured in the same time. */
  meter?: Meter
}

export interface Meter {
  /** Warmed up: what is measured begins. */
  begin(): void
  /** What is measured has been sent, and answered. */
  end(): void
}

export interface Outcome {
  /** Good responses a second. */
  rate: number
  /** Good responses. */
  count: number
  /** Those while it warmed up, too. */
  total: number
  errors: number
  latency: Samples
}

export function requestOf(url: string, path: string, body?: string): Buffer {
  const { host } = new URL(url)
  if (body === undefined)
    return Buffer.from(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\naccept: application/json\r\n\r\n`)
  const length = Buffer.byteLength(body)
  return Buffer.from(
    `POST ${path} HTTP/1.1\r\nhost: ${host}\r\naccept: application/json\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n${body}`,
  )
}

/** One request, for its checked body. */
export async function once(load: Pick<Load, 'url' | 'requests' | 'check'>): Promise<string> {
  const connection = await open(load.url, true)
  try {
    const body = await new Promise<string>((resolve, reject) => {
      connection.send(load.requests[0]!, (response) => {
        if (response) resolve(response.body.toString())
        else reject(new Error(`${load.url} closed the connection`))
      })
    })
    load.check(body)
    return body
  } finally {
    connection.close()
  }
}

export async function run(load: Load): Promise<Outcome> {
  const like = (await once(load)).slice(0, 9)
  const good = Buffer.from(like)
  const isGood = (response: Response | undefined) =>
    response !== undefined && response.status < 300 && response.body.subarray(0, good.length).equals(good)
  const connections = await Promise.all(Array.from({ length: load.connections }, () => open(load.url)))
  const latency = new Samples()
  const measureFrom = performance.now() + (load.warmUpSeconds ?? 0) * 1_000
  const until = measureFrom + load.seconds * 1_000
  let done = 0
  let total = 1
  let errors = 0
  // The first one was sent for the check.
  let next = 1
  const count = (response: Response | undefined, since: number) => {
    const now = performance.now()
    if (isGood(response)) total += 1
    if (since < measureFrom || (now > until && load.rate === undefined)) return
    if (!isGood(response)) errors += 1
    else {
      done += 1
      latency.add(now - since)
    }
  }
  const receive = () => load.requests[next++ % load.requests.length]!
  const begin = setTimeout(() => load.meter?.begin(), (load.warmUpSeconds ?? 0) * 1_000)
  try {
    if (load.rate === undefined)
      await Promise.all(connections.map((connection) => saturate(connection, receive, count, until)))
    else await pace(connections, load, receive, count, until)
    load.meter?.end()
  } finally {
    clearTimeout(begin)
    for (const connection of connections) connection.close()
  }
  return { rate: done / load.seconds, count: done, total, errors, latency }
}

type Count = (response: Response | undefined, since: number) => void

function saturate(connection: Connection, receive: () => Buffer, count: Count, until: number): Promise<void> {
  return new Promise((resolve) => {
    const go = () => {
      const since = performance.now()
      if (since > until || !connection.alive) return resolve()
      connection.send(receive(), (response) => {
        count(response, since)
        go()
      })
    }
    go()
  })
}

/** Sends what is due every millisecond. What finds no free connection waits, and its latency counts from when it was due. */
async function pace(
  connections: Connection[],
  { rate, onSend }: Load,
  receive: () => Buffer,
  count: Count,
  until: number,
): Promise<void> {
  const free = [...connections]
  const started = performance.now()
  let sent = 0
  let answered = 0
  const due = () => Math.floor(((Math.min(performance.now(), until) - started) / 1_000) * rate!)
  const flush = () => {
    while (free.length > 0 && sent < due()) {
      // In turns: one that rests for long is closed by the server.
      const connection = free.shift()!
      const since = started + (sent / rate!) * 1_000
      onSend?.(sent, since)
      sent += 1
      connection.send(receive(), (response) => {
        answered += 1
        count(response, since)
        if (connection.alive) free.push(connection)
        flush()
      })
    }
  }
  while (performance.now() < until) {
    flush()
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  // What is under way may finish. What never found a connection, or is not answered by then, is an error.
  const patience = performance.now() + 2_000
  while (answered < sent && performance.now() < patience) await new Promise((resolve) => setTimeout(resolve, 10))
  for (let i = answered; i < due(); i++) count(undefined, until)
}

export interface Response {
  status: number
  /** Its beginning; all of it where `missing` is 0. */
  body: Buffer
  missing: number
}

export interface Connection {
  readonly alive: boolean
  /** The callback gets undefined when the connection broke instead. */
  send(request: Buffer, callback: (response: Response | undefined) => void): void
  close(): void
}

/** `whole`: for who wants to read the bodies. */
export async function open(url: string, whole = false): Promise<Connection> {
  const { hostname, port } = new URL(url)
  const socket = await new Promise<Socket>((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true }, () => resolve(socket))
    socket.once('error', reject)
  })
  let waiting: ((response: Response | undefined) => void) | undefined
  let alive = true
  /** Of the response that is arriving: what is there of it, and how much is still to come. */
  let partial: Buffer | undefined
  let missing = 0
  const answer = (response: Response | undefined) => {
    const callback = waiting
    waiting = undefined
    partial = undefined
    missing = 0
    callback?.(response)
  }
  socket.on('data', (chunk: Buffer) => {
    // The rest of a long body is only counted.
    if (missing > chunk.length) {
      missing -= chunk.length
      return
    }
    const bytes = partial && missing === 0 ? Buffer.concat([partial, chunk]) : (partial ?? chunk)
    const response = parse(bytes)
    if (response && (response.missing === 0 || missing > 0)) answer(response)
    else {
      partial = bytes
      missing = whole ? 0 : (response?.missing ?? 0)
    }
  })
  const broken = () => {
    alive = false
    answer(undefined)
  }
  socket.removeAllListeners('error')
  socket.on('error', broken)
  socket.on('close', broken)
  return {
    get alive() {
      return alive
    },
    send(request, callback) {
      waiting = callback
      socket.write(request)
    },
    close: () => {
      alive = false
      socket.destroy()
    },
  }
}

const headEnd = Buffer.from('\r\n\r\n')
const lastChunk = Buffer.from('\r\n0\r\n\r\n')

/** The response, once its head is there; and, where its length is not told before, all of it. */
function parse(bytes: Buffer): Response | undefined {
  const end = bytes.indexOf(headEnd)
  if (end < 0) return undefined
  const head = bytes.toString('latin1', 0, end)
  const status = Number(head.slice(9, 12))
  const length = /content-length: (\d+)/i.exec(head)?.[1]
  const start = end + 4
  if (length !== undefined) {
    const body = bytes.subarray(start, start + Number(length))
    return { status, body, missing: Number(length) - body.length }
  }
  if (!bytes.subarray(-lastChunk.length).equals(lastChunk)) return undefined
  // What is looked at is the beginning of the first chunk.
  return { status, body: bytes.subarray(bytes.indexOf('\r\n', start) + 2, -lastChunk.length), missing: 0 }
}
