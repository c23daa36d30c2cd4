import { defineConfig } from 'vite'

/** What babel-plugin-relay does: each graphql tag becomes an import of what relay-compiler wrote for it. */
const relay = {
  name: 'relay',
  enforce: 'pre',
  transform(code, id) {
    if (!id.endsWith('.jsx')) return undefined
    const imports = []
    const text = code.replace(/graphql`\s*(?:query|mutation|subscription|fragment) (\w+)[^`]*`/g, (_, name) => {
      imports.push(`import ${name} from './__generated__/${name}.graphql.js'\n`)
      return name
    })
    return imports.join('') + text
  },
}

export default defineConfig({
  plugins: [relay],
  // The dev server passes these requests on, WebSockets included, so that the page and the API have one origin.
  server: { proxy: { '/graphql': { target: process.env.SPILLWAY_URL ?? 'http://127.0.0.1:8080', ws: true } } },
})
