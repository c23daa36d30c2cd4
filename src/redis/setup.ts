/**
 * Sets up a new connection and checks its server. If a step fails, the connection is closed: without the step, a client would use another
 * database, another user, or a server that cannot be a queue.
 */
import type { Redis } from 'ioredis'
import { hashTag, type RedisAddress } from './address.ts'

/** Why a connection cannot be used. */
export interface Problem {
  /** For /readyz: the step and the server's own code, or a code of ours. */
  code: string
  /** For the log: what was wrong, and what to do. */
  reason: string
}

type Reply = { value: unknown } | { error: Error }

/** Sends all steps at once; undefined if all of them succeed. Rejects if the connection breaks meanwhile. */
export async function setUp(
  client: Redis,
  address: RedisAddress,
  { name, tag }: { name: string; tag: string },
): Promise<Problem | undefined> {
  const { username, password, db } = address
  const ask = (command: string, ...args: (string | number)[]): Promise<Reply> =>
    // In capitals: the client repeats a `select` in small letters after a reconnect, and ignores its error.
    client.call(command, ...args).then(
      (value) => ({ value }),
      (error: Error) => (error.name === 'ReplyError' ? { error } : Promise.reject(error)),
    )
  const [auth, select, info, script, spread] = await Promise.all([
    password === undefined ? undefined : ask('AUTH', ...(username === undefined ? [] : [username]), password),
    db === 0 ? undefined : ask('SELECT', db),
    ask('INFO'),
    // Every user needs the right to run scripts on the keys.
    ask('EVAL', 'return 1', 1, `${tag}:probe`),
    // In a cluster the two keys have different slots. The user may have no right to the second one.
    ask('EVAL', 'return 1', 2, `${tag}:probe`, `${hashTag(address, 'another')}:probe`),
    // Its failure is ignored.
    ask('CLIENT', 'SETNAME', name),
  ])
  return (
    refusal('AUTH', auth, 'check user and password in the URL') ??
    unfit(info && 'value' in info ? String(info.value) : '') ??
    refusal('SELECT', select, 'check the number of the database, and whether the user may SELECT') ??
    refusal('EVAL', script, 'docs/operations.md lists the rights that the user needs') ??
    (inCluster.test(codeOf(spread)) ? cluster : undefined)
  )
}

/** The code of an error reply: its first word. */
const codeOf = (reply: Reply | undefined) => (reply && 'error' in reply ? reply.error.message.split(' ', 1)[0]! : '')

function refusal(step: string, reply: Reply | undefined, advice: string): Problem | undefined {
  if (!reply || !('error' in reply)) return undefined
  const code = codeOf(reply)
  if (inCluster.test(code)) return cluster
  // A server that does not know AUTH repeats the password in its error.
  const answer = step === 'AUTH' ? code : reply.error.message.slice(0, 200)
  return { code: `${step} ${code}`, reason: `${step} was refused (${answer}): ${advice}` }
}

/** Error codes of a node of a cluster. */
const inCluster = /^(MOVED|ASK|CROSSSLOT|CLUSTERDOWN|TRYAGAIN)$/

const cluster: Problem = {
  code: 'CLUSTER',
  reason:
    'it is a node of a Redis Cluster, which this release cannot use: events of enqueued saves could never be published. ' +
    'Use a single Redis (cluster-enabled no)',
}

/** Reads INFO, if the user has the right to it; without it, the other steps or the first write fail. */
function unfit(info: string): Problem | undefined {
  const field = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1]
  // Valkey names it server_mode.
  const mode = field('redis_mode') ?? field('server_mode')
  if (mode === 'sentinel') {
    return { code: 'SENTINEL', reason: 'it is a Sentinel, which this release cannot use: name the primary itself' }
  }
  if (mode === 'cluster' || field('cluster_enabled') === '1') return cluster
  if (field('role') === 'slave')
    return { code: 'REPLICA', reason: 'it is a replica, which rejects writes: name the primary' }
  if (field('loading') === '1') return { code: 'LOADING', reason: 'it is loading its data' }
  return undefined
}

/** The problem of a connection that failed, without its address: hosts must not be logged. */
export function problemOf(error: Error & { code?: string; syscall?: string }): Problem {
  if (error.name === 'ParserError') {
    return {
      code: 'NOT_REDIS',
      reason: 'the server does not use the protocol of Redis (or expects TLS: rediss://)',
    }
  }
  const code = error.code ?? error.name
  const namesHost = error.syscall !== undefined || code === 'ERR_TLS_CERT_ALTNAME_INVALID' || error.message === ''
  return { code, reason: namesHost ? code : error.message }
}
