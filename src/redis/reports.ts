/**
 * What the log says of the Redis that a setting names. A process has several connections to it: what all of them meet is logged once, with
 * the name of the setting, until all of them are ready again. In a cluster each connection may meet troubles of its own, because its keys are
 * on another node.
 */
import type { Log } from '../model/log.ts'
import type { RedisAddress } from './address.ts'
import type { Problem } from './setup.ts'

/** A connection. */
export interface Reporting {
  /** What it is for. */
  readonly role: string
}

export class RedisReports {
  readonly #log: Log
  readonly #address: RedisAddress
  /** The connections that have met each problem since they were ready last. */
  readonly #met = new Map<string, Set<Reporting>>()

  constructor(log: Log, address: RedisAddress) {
    this.#log = log
    this.#address = address
  }

  problem(by: Reporting, problem: Problem): void {
    const { moved: _, isOfUrl = false, ...fields } = problem
    const isShared = isOfUrl || this.#address.kind !== 'cluster'
    if (!this.#isNew(by, problem.code, isShared)) return
    const { setting } = this.#address
    this.#log.warn({ setting, ...(!isShared && { role: by.role }), ...fields }, 'Redis cannot be used; trying again')
  }

  /** The keys of a connection are on another node of the cluster. */
  follows(by: Reporting, code: string): void {
    this.#isNew(by, code, false)
    this.#log.info({ role: by.role, code }, 'the keys are on another node of the cluster; following them')
  }

  #isNew(by: Reporting, code: string, isShared: boolean): boolean {
    const key = isShared ? code : `${code} ${by.role}`
    const met = this.#met.get(key)
    if (met) met.add(by)
    else this.#met.set(key, new Set([by]))
    return met === undefined
  }

  ready(by: Reporting): void {
    if (this.forget(by)) this.#log.info({ setting: this.#address.setting, role: by.role }, 'Redis is back')
  }

  /** Returns whether it was the last connection that had met some problem. */
  forget(by: Reporting): boolean {
    let isLast = false
    for (const [key, met] of this.#met) {
      if (!met.delete(by) || met.size > 0) continue
      this.#met.delete(key)
      isLast = true
    }
    return isLast
  }
}

/** A process has one log. */
const ofLogs = new WeakMap<Log, Map<string, RedisReports>>()

/** The reports of a setting in a log. */
export function reportsOf(log: Log, address: RedisAddress): RedisReports {
  const bySetting = ofLogs.get(log) ?? new Map<string, RedisReports>()
  ofLogs.set(log, bySetting)
  const reports = bySetting.get(address.setting) ?? new RedisReports(log, address)
  bySetting.set(address.setting, reports)
  return reports
}
