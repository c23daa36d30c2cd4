import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

const api = process.env.SPILLWAY_URL ?? 'http://127.0.0.1:8080'
// In the repository, the client's source; elsewhere, the package.
const source = fileURLToPath(new URL('../../client/index.ts', import.meta.url))

export default defineConfig({
  resolve: { alias: existsSync(source) ? { 'spillway-client': source } : {} },
  // The dev server passes these requests on, so that the page and the API have one origin, and the browser asks for no CORS.
  server: { proxy: { '/graphql': api, '/models.json': api } },
})
