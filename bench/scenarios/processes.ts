/** What a save costs in CPU where API processes share a port. Each of them gets the load that one process gets alone. */
import { apiProcesses } from '../../test/harness/machine.ts'
import { run } from '../client.ts'
import { type Contender, startSpillway } from '../contender.ts'
import { cpuMs } from '../process-figures.ts'
import { checkGraphqlSave, graphqlSaves } from '../save.ts'
import type { Scenario } from '../scenario.ts'

const savesPerProcess = 1_000
const connectionsPerProcess = 16

const nameOf = (processes: number) => `${processes} API process${processes > 1 ? 'es' : ''}`

const sharing = (processes: number): Contender => ({
  name: nameOf(processes),
  role: 'ours',
  start: async (parts) => {
    const api = await startSpillway('api', { ...parts.env, API_PROCESSES: String(processes) })
    const load = {
      url: api.url,
      connections: connectionsPerProcess * processes,
      requests: graphqlSaves(api.url),
      check: checkGraphqlSave,
      rate: savesPerProcess * processes,
    }
    const { seconds, warmUpSeconds } = parts.pace
    return {
      async measure() {
        await parts.reset()
        await run({ ...load, seconds: warmUpSeconds })
        const pids = [api.pid, ...apiProcesses(api.pid)]
        const before = pids.map(cpuMs)
        const { rate, errors } = await run({ ...load, seconds })
        const [primary, ...others] = pids.map((pid, i) => ((cpuMs(pid) - before[i]!) * 1_000) / (rate * seconds))
        const cpu = others.reduce((sum, one) => sum + one, primary!)
        return { cpu, primary: processes > 1 ? primary! : 0, rate, errors }
      },
      stop: api.stop,
    }
  },
})

export const processes: Scenario = {
  name: 'processes',
  title: `CPU of a save over several API processes, ${savesPerProcess.toLocaleString('en')} saves/s each`,
  figure: 'cpu',
  unit: 'µs',
  note: 'The sum of all API processes and of the primary, which accepts the connections. The load is the same for each process, since a process that has more to do joins more saves in a call of the queue. On two cores the rate itself says nothing.',
  contenders: [sharing(4), sharing(2), sharing(1)],
  targets: [{ beside: nameOf(1), atMost: 1.2 }, { beside: nameOf(2) }, { figure: 'primary', unit: 'µs' }],
}
