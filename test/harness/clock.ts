/**
 * Preloaded into a process (NODE_OPTIONS=--import=…/clock.ts), it lets a test set the wall clock of that process alone: SIGUSR2 steps it
 * back by an hour. TEST_CLOCK_SHIFT_MS shifts it from the start, in worker threads, too. Timers and performance.now() go on as ever, as
 * they do when a real clock is set.
 */
const System = globalThis.Date
let shiftMs = Number(process.env.TEST_CLOCK_SHIFT_MS ?? 0)
process.on('SIGUSR2', () => {
  shiftMs -= 3_600_000
})
const now = () => System.now() + shiftMs

globalThis.Date = new Proxy(System, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget === globalThis.Date ? target : newTarget),
  get: (target, name) => (name === 'now' ? now : Reflect.get(target, name)),
  apply: () => new System(now()).toString(),
})
