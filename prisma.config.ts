import { defineConfig } from 'prisma/config'

// `prisma generate` asks for a schema engine it never runs, and would download it. A machine may have no way to the place
// it comes from, so name a binary that is certainly there.
if (process.argv.includes('generate')) process.env.PRISMA_SCHEMA_ENGINE_BINARY ??= process.execPath

export default defineConfig({})
