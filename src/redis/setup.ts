/**
 * Sets up a new connection and checks its server. If a step fails, the connection is closed: without the step, a client would use another
 * database, another user, or a server that cannot be a queue.
 */
import type { Redis } from 'ioredis'
import { hashTag, type Kind, type RedisAddress } from './address.ts'

/** Why a connection cannot be used. */
export interface Problem {
  /** For /readyz: the step and the server's own code, or a code of ours. */
  code: string
  /** For the log: what was wrong, and what to do. */
  reason: string
  /** Every connection of the setting meets it, in a cluster at each node: the URL is wrong, or the server is of another kind. */
  isOfUrl?: boolean
  /** In a cluster: the reply that names the right node. */
  moved?: string
}

type Reply = { value: unknown } | { error: Error }

/**
 * Sends all steps at once; undefined if all of them succeed. Rejects if the connection breaks meanwhile. `onSlots` is called with the nodes
 * of a cluster, if the user may ask for them.
 */
export async function setUp(
  client: Redis,
  address: RedisAddress,
  { name, tag, keeps, onSlots }: { name: string; tag: string; keeps: boolean; onSlots: (slots: unknown) => void },
): Promise<Problem | undefined> {
  const { kind, db } = address
  const { username, password } = address.redis
  const ask = (command: string, ...args: (string | number)[]): Promise<Reply> =>
    // In capitals: the client repeats a `select` in small letters after a reconnect, and ignores its error.
    client.call(command, ...args).then(
      (value) => ({ value }),
      (error: Error) => (error.name === 'ReplyError' ? { error } : Promise.reject(error)),
    )
  const [auth, select, info, script, more] = await Promise.all([
    password === undefined ? undefined : ask('AUTH', ...(username === undefined ? [] : [username]), password),
    db === 0 ? undefined : ask('SELECT', db),
    ask('INFO'),
    // Every user needs the right to run scripts on the keys.
    ask('EVAL', 'return 1', 1, `${tag}:probe`),
    kind === 'cluster'
      ? ask('CLUSTER', 'SLOTS')
      : // In a cluster the two keys have different slots. The user may have no right to the second one.
        ask('EVAL', 'return 1', 2, `${tag}:probe`, `${hashTag(address, 'another')}:probe`),
    // Its failure is ignored.
    ask('CLIENT', 'SETNAME', name),
  ])
  if (kind === 'cluster' && more && 'value' in more) onSlots(more.value)
  return (
    // Before AUTH: a server of the wrong kind may have no password.
    unfit(info && 'value' in info ? String(info.value) : '', { kind, keeps }) ??
    refusal('AUTH', auth, 'check user and password in the URL') ??
    (kind === 'cluster' ? redirection(script) : undefined) ??
    refusal('SELECT', select, 'check the number of the database, and whether the user may SELECT') ??
    refusal('EVAL', script, 'docs/operations.md lists the rights that the user needs') ??
    (kind !== 'cluster' && inCluster.test(codeOf(more)) ? cluster : undefined)
  )
}

/** Whether an error reply says that a node of a cluster has not run the command, because it does not serve the keys now. */
export const isRedirection = (message: string): boolean => /^(MOVED|ASK|CLUSTERDOWN|TRYAGAIN)\b/.test(message)

function redirection(reply: Reply | undefined): Problem | undefined {
  const code = codeOf(reply)
  if (!isRedirection(code)) return undefined
  const reasons: Record<string, string> = {
    MOVED: 'the nodes of the cluster send the connection from one to the next: see CLUSTER NODES on each of them',
    CLUSTERDOWN: 'the node says that the cluster is down: no majority of its masters, or a slot that no node serves',
  }
  const migrating =
    'the slot of the keys is being moved to another node; until it has moved, no script can run. If no resharding is under way, ' +
    'one was interrupted: redis-cli --cluster fix ends it'
  return {
    code,
    reason: reasons[code] ?? migrating,
    ...(code === 'MOVED' && reply && 'error' in reply && { moved: reply.error.message }),
  }
}

/** The code of an error reply: its first word. */
const codeOf = (reply: Reply | undefined) => (reply && 'error' in reply ? reply.error.message.split(' ', 1)[0]! : '')

function refusal(step: string, reply: Reply | undefined, advice: string): Problem | undefined {
  if (!reply || !('error' in reply)) return undefined
  const code = codeOf(reply)
  if (inCluster.test(code)) return cluster
  // A server that does not know AUTH repeats the password in its error.
  const answer = step === 'AUTH' ? code : reply.error.message.slice(0, 200)
  return { code: `${step} ${code}`, isOfUrl: true, reason: `${step} was refused (${answer}): ${advice}` }
}

/** Error codes of a node of a cluster. */
const inCluster = /^(MOVED|ASK|CROSSSLOT|CLUSTERDOWN|TRYAGAIN)$/

const cluster: Problem = {
  code: 'CLUSTER',
  isOfUrl: true,
  reason:
    'it is a node of a Redis Cluster, and the URL names a single Redis: expected redis+cluster://HOST:PORT,HOST:PORT, with some of ' +
    'the nodes (rediss+cluster:// for TLS)',
}

/** Reads INFO, if the user has the right to it; without it, the other steps or the first write fail. */
function unfit(info: string, { kind, keeps }: { kind: Kind; keeps: boolean }): Problem | undefined {
  const field = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1]
  // Valkey names it server_mode.
  const mode = field('redis_mode') ?? field('server_mode')
  if (mode === 'sentinel') {
    return {
      code: 'SENTINEL',
      isOfUrl: true,
      reason:
        'it is a Sentinel: expected redis+sentinel://HOST:26379,HOST:26379/MASTER, with some of the Sentinels and the name of the master',
    }
  }
  const isNode = mode === 'cluster' || field('cluster_enabled') === '1'
  if (kind === 'cluster' && info !== '' && !isNode) {
    return {
      code: 'NOT_CLUSTER',
      isOfUrl: true,
      reason: 'it is a single Redis and no node of a cluster: expected redis://HOST:PORT',
    }
  }
  if (kind !== 'cluster' && isNode) return cluster
  // In a cluster it names its master, by MOVED.
  if (field('role') === 'slave' && kind !== 'cluster') return { code: 'REPLICA', reason: replica[kind] }
  const policy = field('maxmemory_policy')
  if (keeps && policy !== undefined && policy !== 'noeviction') {
    const reason = `it evicts keys when its memory is full (maxmemory-policy ${policy}): set maxmemory-policy noeviction, or use another instance`
    return { code: 'EVICTS', isOfUrl: true, reason }
  }
  if (field('loading') === '1') return { code: 'LOADING', reason: 'it is loading its data' }
  return undefined
}

const replica = {
  single: 'it is a replica, which rejects writes: name the primary, or the Sentinels by redis+sentinel://',
  sentinel: 'the Sentinels name a replica, which rejects writes: a failover is under way',
}

/** The problem of a connection that failed, without its address: hosts must not be logged. */
export function problemOf(error: Error & { code?: string; syscall?: string }): Problem {
  if (error.name === 'ParserError') {
    return {
      code: 'NOT_REDIS',
      isOfUrl: true,
      reason: 'the server does not use the protocol of Redis (or expects TLS: rediss://)',
    }
  }
  const code = error.code ?? error.name
  const namesHost = error.syscall !== undefined || code === 'ERR_TLS_CERT_ALTNAME_INVALID' || error.message === ''
  return { code, reason: namesHost ? code : error.message }
}
