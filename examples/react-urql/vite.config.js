import { defineConfig } from 'vite'

// The dev server passes these requests on, so that the page and the API have one origin, and the browser asks for no CORS.
export default defineConfig({
  server: { proxy: { '/graphql': process.env.SPILLWAY_URL ?? 'http://127.0.0.1:8080' } },
})
