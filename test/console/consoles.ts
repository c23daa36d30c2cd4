/** The whole server, with the console and REST, over the models of model-server.ts: open to everybody, and to tokens only. */
import { type ServerOptions, serve } from '../../src/server/server.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { type ModelServer, serveModels } from '../harness/model-server.ts'
import { datamodelOf } from '../harness/models.ts'
import { quiet } from '../harness/quiet.ts'
import { secret } from '../harness/tenants.ts'

export interface Served {
  url: string
  close(): Promise<void>
}

export interface Consoles {
  served: ModelServer
  /** Every client has the claims sub and tenant. */
  open: Served
  /** Without introspection, as `open` is. */
  locked: Served
  close(): Promise<void>
}

/** Over the app of `served`. */
export function serveAll(
  { app, store }: ModelServer,
  options: Partial<
    Pick<ServerOptions, 'consoleSpike' | 'introspection' | 'operations' | 'auth' | 'origins' | 'requestsPerSecond'>
  > = {},
  datamodel = datamodelOf(),
): Promise<Served> {
  return serve(
    app,
    { client: {}, datamodel },
    {
      host: '127.0.0.1',
      port: 0,
      graphiql: true,
      consoleSpike: false,
      introspection: true,
      operations: undefined,
      auth: {},
      requestsPerSecond: undefined,
      streamsPerClient: undefined,
      maxConnections: 100,
      metrics: new Metrics([...app.models.keys()]),
      store,
      events: { probe: async () => {} },
      prepared: () => true,
      hosts: [],
      origins: [],
      log: quiet(),
      ...options,
    },
  )
}

export async function serveConsoles(): Promise<Consoles> {
  const served = await serveModels()
  const auth = { devClaims: { sub: 'dev', tenant: 'a' } }
  const open = await serveAll(served, { introspection: false, consoleSpike: true, auth })
  const locked = await serveAll(served, { introspection: false, auth: { secret } })
  const close = async () => {
    await open.close()
    await locked.close()
    await served.close()
  }
  return { served, open, locked, close }
}
