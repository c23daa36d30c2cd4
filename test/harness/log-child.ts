/** An embedded API with the log of a real process; SIGUSR2 makes it log 20,000 lines of about a kilobyte, 20 MB, within two seconds. */
import { readConfig } from '../../src/config.ts'
import * as given from '../../src/models/index.ts'
import { startApi } from '../../src/start.ts'
import { openLog } from '../../src/telemetry/log.ts'

const log = openLog()
const api = await startApi(readConfig(), given, log)
process.on('SIGUSR2', () => {
  let rounds = 20
  const timer = setInterval(() => {
    for (let i = 0; i < 1_000; i++) log.warn({ filler: 'x'.repeat(1_000) }, 'one of many')
    rounds -= 1
    if (rounds === 0) clearInterval(timer)
  }, 50)
})
process.on('SIGTERM', async () => {
  await api.close()
  await log.flush(500)
  process.exit(0)
})
