/** A Yoga server with a schema of its own, which saves and reads comments through Spillway: one schema, one port. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { stitchSchemas } from '@graphql-tools/stitch'
import { createSchema, createYoga } from 'graphql-yoga'
import { openLog, readConfig, startSubschema } from 'spillway'
import * as given from './models/index.ts'

interface Context {
  user: string | undefined
}

const own = createSchema<Context>({
  typeDefs: 'type Query { me: String }',
  resolvers: { Query: { me: (_root, _args, { user }) => user } },
})

const spillway = await startSubschema(readConfig(), given, {
  log: openLog(),
  // What a client may do with comments, from the context that the app makes below.
  access(context) {
    const { user } = context as Context
    return user ? { scopes: ['read', 'write'], claims: { sub: user } } : { scopes: ['read'] }
  },
})

const yoga = createYoga<object, Context>({
  schema: stitchSchemas({ subschemas: [{ schema: own }, spillway] }),
  // In place of the app's sessions.
  context: ({ request }) => ({ user: request.headers.get('x-user') ?? undefined }),
})

const server = createServer(yoga)
server.listen(Number(process.env.PORT ?? 4000), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/graphql`)
})

async function stop(): Promise<void> {
  // It ends the subscriptions, too.
  await spillway.close()
  server.close()
  server.closeIdleConnections()
}
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void stop())
spillway.failed.catch(async (error: Error) => {
  console.error(error.message)
  await stop()
  process.exitCode = 1
})
