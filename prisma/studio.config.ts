// For src/commands/studio.ts, which hands the URL over in the environment: on the command line everybody on the machine could read the
// password in it.
import type { PrismaConfig } from 'prisma/config'

export default { datasource: { url: process.env.STUDIO_DATABASE_URL ?? '' } } satisfies PrismaConfig
