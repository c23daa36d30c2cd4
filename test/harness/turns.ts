/**
 * Preloaded into a process (NODE_OPTIONS=--import=…/turns.ts), it measures how long the main thread computed without turning its event
 * loop: in CPU time, so that what other processes take of the machine does not count. The longest time since the last SIGUSR2, in ms,
 * stands in the file that TURNS_FILE names.
 */
import { writeFileSync } from 'node:fs'

const file = process.env.TURNS_FILE!
const everyMs = 5

let longest = 0
const cpuMs = () => {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1_000
}
let before = cpuMs()
setInterval(() => {
  const now = cpuMs()
  if (now - before > longest) {
    longest = now - before
    writeFileSync(file, String(longest))
  }
  before = cpuMs()
}, everyMs).unref()

process.on('SIGUSR2', () => {
  longest = 0
  writeFileSync(file, '0')
})
