/**
 * Prisma Studio for the compose profile `studio`. Studio listens only on the loopback of its container, which no published port reaches.
 * This proxy forwards connections from the container's own address, on the same port, so that Studio recognises its own origin.
 * usage: node studio.mjs PORT [ADDRESS], in the folder of Spillway.
 */
import { spawn } from 'node:child_process'
import { connect, createServer } from 'node:net'
import { hostname } from 'node:os'

const [port, address = hostname()] = process.argv.slice(2)
const command = ['--disable-warning=ExperimentalWarning', 'src/commands/studio.ts', '--browser', 'none', '--port', port]
const studio = spawn(process.execPath, command, { stdio: 'inherit' })

const front = createServer((outside) => {
  const inside = connect(Number(port), '127.0.0.1')
  for (const [from, to] of [
    [outside, inside],
    [inside, outside],
  ]) {
    from.pipe(to)
    from.on('error', () => to.destroy())
    from.on('close', () => to.destroy())
  }
})
front.listen(Number(port), address)

for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => studio.kill(signal))
studio.on('exit', (code) => process.exit(code ?? 0))
