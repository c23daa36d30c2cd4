/** A Spillway to be abused: how much memory it takes is measured from outside, and whether it still does its work is asked. */
import { randomUUID } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { expect } from 'vitest'
import { type BootOptions, boot, type SetUp, type Spillway, unique } from './boot.ts'
import { type Client, untilTaken } from './client.ts'
import { holds } from './eventually.ts'

export class Target {
  readonly system: Spillway
  #settledMb = 0

  private constructor(system: Spillway) {
    this.system = system
  }

  static async start(
    env: Record<string, string> = {},
    setUp: SetUp = 'embedded',
    options: Pick<BootOptions, 'tree' | 'intervals'> = {},
  ): Promise<Target> {
    const target = new Target(await boot(setUp, { ...options, env, workers: 1 }))
    // What it loads with its first requests, whoever sends them, is no abuse.
    await target.work()
    return target
  }

  get url(): string {
    return this.system.url
  }

  get client(): Client {
    return this.system.client
  }

  get #proc(): string {
    return `/proc/${this.system.api.pid}`
  }

  #megabytes(name: 'VmRSS' | 'VmHWM'): number {
    return Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(readFileSync(`${this.#proc}/status`, 'utf8'))![1]) / 1024
  }

  /** From now on is measured. */
  mark(): void {
    // 5: the peak starts anew from what is taken now.
    writeFileSync(`${this.#proc}/clear_refs`, '5')
    this.#settledMb = this.#megabytes('VmRSS')
  }

  /** By how much its resident memory was above that of `mark` at its peak, in MB. */
  get grownMb(): number {
    return this.#megabytes('VmHWM') - this.#settledMb
  }

  /** Its resident memory at its peak since `mark`, in MB. */
  get peakMb(): number {
    return this.#megabytes('VmHWM')
  }

  /** A save, up to its row. */
  async work(): Promise<void> {
    const [content, saveId] = [unique(), randomUUID()]
    const { body } = await untilTaken(() => this.system.client.saveAndWait(content, 20_000, saveId))
    // While many requests wait for their bodies, a save answers QUEUED at once.
    expect(['QUEUED', 'SAVED'], JSON.stringify(body)).toContain(body.data?.save.status)
    const { saveId: id } = body.data.save
    const query = '{ receipt(id: "ID") { status } }'.replace('ID', id)
    await holds(
      async () =>
        expect((await this.system.client.graphql(query)).body).toEqual({ data: { receipt: { status: 'SAVED' } } }),
      { timeoutMs: 20_000 },
    )
  }

  /** It is ready, saves, and never took more than that. */
  async expectSound(mostMb = 200): Promise<void> {
    await holds(async () => expect((await fetch(`${this.url}/readyz`)).status).toBe(200))
    await this.work()
    expect(this.system.api.logs()).not.toContain('unexpected error')
    expect(this.grownMb).toBeLessThan(mostMb)
  }

  stop(): Promise<void> {
    return this.system.stop()
  }
}
