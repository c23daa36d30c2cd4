/**
 * Builds the console into web/dist (part of `npm ci`); `node web/build.ts dev` serves it with the API of PORT 8080 behind it, and reloads as
 * files change. Vite is an optional dependency: after `npm ci --omit=optional` there is no console, unless web/dist was brought along.
 */
import { fileURLToPath } from 'node:url'
import type { InlineConfig, Plugin } from 'vite'

/** uPlot without the functions that it offers beside the chart: bars, steps, splines, joins, dates. They are a tenth of it, and the console uses none. */
const chartAlone: Plugin = {
  name: 'chart alone',
  transform(code, id) {
    if (!id.endsWith('uPlot.esm.js')) return null
    const offered = /\nuPlot\.assign = [\s\S]*(?=\nexport )/
    if (!offered.test(code)) throw new Error('uPlot offers its functions in another way: see web/build.ts')
    return code.replace(offered, '')
  },
}

/** As the server does where CONSOLE_SPIKE is on. */
const spike: Plugin = {
  name: 'spike',
  apply: 'serve',
  transformIndexHtml: (page) => page.replace('<div id="console"', '$& data-console-spike'),
}

const config: InlineConfig = {
  root: fileURLToPath(new URL('.', import.meta.url)),
  configFile: false,
  base: '/console/',
  logLevel: 'warn',
  publicDir: false,
  plugins: [chartAlone, spike],
  // No data: URLs and no inline script, so that the Content-Security-Policy can be strict.
  build: { assetsInlineLimit: 0, modulePreload: { polyfill: false }, target: 'es2023', reportCompressedSize: false },
  // `h(…)` is shorter than what the automatic runtime makes, and needs no second runtime.
  oxc: {
    jsx: { runtime: 'classic', pragma: 'h', pragmaFrag: 'Fragment' },
    jsxInject: "import { Fragment, h } from 'preact'",
  },
  server: {
    fs: { allow: ['..'] },
    proxy: { '/graphql': 'http://127.0.0.1:8080', '/models.json': 'http://127.0.0.1:8080' },
  },
}

const vite = await import('vite').catch((error: NodeJS.ErrnoException) => {
  if (error.code !== 'ERR_MODULE_NOT_FOUND' || !error.message.includes("'vite'")) throw error
  return undefined
})
if (!vite)
  console.log('The console is not built, since optional dependencies were left out (Vite). The API does without it.')
else if (process.argv[2] === 'dev') {
  const server = await vite.createServer(config)
  await server.listen()
  server.printUrls()
} else await vite.build(config)
