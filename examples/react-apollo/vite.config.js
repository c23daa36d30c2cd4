import { defineConfig } from 'vite'

// The dev server passes these requests on, WebSockets included, so that the page and the API have one origin.
export default defineConfig({
  server: { proxy: { '/graphql': { target: process.env.SPILLWAY_URL ?? 'http://127.0.0.1:8080', ws: true } } },
})
