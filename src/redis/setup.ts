/**
 * What has to be true of a connection before anything is asked of it. A step that fails is no connection: a client that goes on without
 * it would use another database, another user, or a server that cannot hold a queue.
 */
import type { Redis } from 'ioredis'
import type { RedisAddress } from './address.ts'

/** Why a connection cannot be used. */
export interface Problem {
  /** For /readyz: the step and the server's own code, or a word of ours. */
  code: string
  /** For the log: what was wrong, and what to do. */
  reason: string
}

type Reply = { value: unknown } | { error: Error }

/** Sends every step at once; undefined when all of them succeeded. Rejects where the connection breaks meanwhile. */
export async function setUp(client: Redis, address: RedisAddress, name: string): Promise<Problem | undefined> {
  const { username, password, db, prefix } = address
  const ask = (command: string, ...args: (string | number)[]): Promise<Reply> =>
    // In capitals: of `select` in small letters the client keeps an account, and repeats it by itself, unheard, after a reconnect.
    client.call(command, ...args).then(
      (value) => ({ value }),
      (error: Error) => (error.name === 'ReplyError' ? { error } : Promise.reject(error)),
    )
  const [auth, select, info, script] = await Promise.all([
    password === undefined ? undefined : ask('AUTH', ...(username === undefined ? [] : [username]), password),
    db === 0 ? undefined : ask('SELECT', db),
    ask('INFO'),
    // Every user of Spillway's may run scripts on its keys; and in a cluster, these two keys are in different places.
    ask('EVAL', 'return 1', 2, `{${prefix}:0}:queue`, `{${prefix}:events}:log`),
    // Nice to have.
    ask('CLIENT', 'SETNAME', name),
  ])
  return (
    refusal('AUTH', auth, 'check user and password in the URL') ??
    unfit(info && 'value' in info ? String(info.value) : '') ??
    refusal('SELECT', select, 'check the number of the database, and whether the user may SELECT') ??
    refusal('EVAL', script, 'docs/operations.md lists the rights that the user needs')
  )
}

function refusal(step: string, reply: Reply | undefined, advice: string): Problem | undefined {
  if (!reply || !('error' in reply)) return undefined
  const [code = ''] = reply.error.message.split(' ', 1)
  if (inCluster.test(code)) return cluster
  // Of an unknown AUTH the server repeats the password.
  const answer = step === 'AUTH' ? code : reply.error.message.slice(0, 200)
  return { code: `${step} ${code}`, reason: `${step} was refused (${answer}): ${advice}` }
}

/** Answers of a node of a cluster. */
const inCluster = /^(MOVED|ASK|CROSSSLOT|CLUSTERDOWN|TRYAGAIN)$/

const cluster: Problem = {
  code: 'CLUSTER',
  reason:
    'it is a node of a Redis Cluster, which this release cannot use: a save would be taken that can never become an event. ' +
    'Name a single Redis (cluster-enabled no)',
}

/** From INFO, where the user may ask for it; what it would have told shows in the other steps, or when something is written. */
function unfit(info: string): Problem | undefined {
  const field = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1]
  if (field('redis_mode') === 'sentinel') {
    return { code: 'SENTINEL', reason: 'it is a Sentinel, which this release does not ask: name the primary itself' }
  }
  if (field('redis_mode') === 'cluster' || field('cluster_enabled') === '1') return cluster
  if (field('role') === 'slave')
    return { code: 'REPLICA', reason: 'it is a replica, which takes no writes: name the primary' }
  if (field('loading') === '1') return { code: 'LOADING', reason: 'it is loading its data' }
  return undefined
}

/** What is wrong when the connection itself is. Without the address: hosts are not for the log. */
export function problemOf(error: Error & { code?: string; syscall?: string }): Problem {
  if (error.name === 'ParserError') {
    return {
      code: 'NOT_REDIS',
      reason: 'what listens there does not speak the protocol of Redis (or expects TLS: rediss://)',
    }
  }
  const code = error.code ?? error.name
  const namesHost = error.syscall !== undefined || code === 'ERR_TLS_CERT_ALTNAME_INVALID' || error.message === ''
  return { code, reason: namesHost ? code : error.message }
}
