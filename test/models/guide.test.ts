/**
 * docs/models.md, step by step as it is written: its files are those of examples/comments, its commands run in a copy of the tree, and
 * their output is the one in the guide but for ids, times and cursors. The types of the models hold in the copy, and a model is two files.
 */

import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Child, launch } from '../harness/child.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { root } from '../harness/imports.ts'
import { removeModels } from '../harness/own-models.ts'
import { inherited } from '../harness/process.ts'
import { copyTree, type Tree } from '../harness/tree.ts'
import { example } from './comments.ts'

interface Block {
  language: string
  file: string | undefined
  text: string
}

interface Command {
  line: string
  output: string
}

let tree: Tree
let port: number
let blocks: Block[]
const background: Child[] = []
beforeAll(async () => {
  tree = await copyTree()
  port = await freePort()
  blocks = blocksOf(await readFile(join(root, 'docs/models.md'), 'utf8'))
}, 120_000)
afterAll(async () => {
  for (const child of background) child.kill('SIGTERM')
  await Promise.all(background.map(({ exited }) => exited))
  await tree?.[Symbol.asyncDispose]()
})

const blocksOf = (markdown: string): Block[] =>
  [...markdown.matchAll(/^```(\w+)(?: (\S+))?\n([\s\S]*?)^```$/gm)].map(([, language, file, text]) => ({
    language: language!,
    file,
    text: text!,
  }))

const commandsOf = ({ text }: Block): Command[] =>
  text
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      // A command goes on after a line that ends with a backslash, and within quotes.
      const lines = part.split('\n')
      let count = 1
      const isOpen = (command: string) => /\\$/.test(command) || (command.match(/'/g)?.length ?? 0) % 2 === 1
      while (isOpen(lines.slice(0, count).join('\n'))) count += 1
      return { line: lines.slice(0, count).join('\n'), output: lines.slice(count).join('\n').trim() }
    })

/** Without what differs from run to run. */
const same = (output: string) =>
  output
    .replace(/\b\d{14}_/g, 'TIMESTAMP_')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replace(/[\w-]{12}\.\d{14}\.\d{6}\.\d{6}/g, 'CURSOR')
    .trim()

test('docs/models.md has the files of examples/comments', async () => {
  const files = blocks.filter(({ file }) => file !== undefined)
  expect(files.map(({ file }) => file)).toEqual([
    'prisma/schema.prisma',
    ...['post', 'comment', 'index'].map((name) => `src/models/${name}.ts`),
  ])
  for (const { file, text } of files) expect(text).toBe(await example(file!.split('/').at(-1)!))
})

test('a model of examples/comments has at most 60 lines in two files', async () => {
  const [schema, source] = [await example('schema.prisma'), await example('comment.ts')]
  const [part] = /^model Comment \{[\s\S]*?^\}/m.exec(schema)!
  const lines = part.split('\n').length + source.trim().split('\n').length
  expect(lines).toBeLessThanOrEqual(60)
})

test('docs/models.md leads from nothing to two models, and its commands have the output that it shows', async () => {
  for (const block of blocks) {
    if (block.file === 'prisma/schema.prisma') await tree.append(block.file, `\n${block.text}`)
    else if (block.file !== undefined) await tree.write(block.file, block.text)
    else if (block.language === 'console') for (const command of commandsOf(block)) await run(command)
  }
  await Promise.all(checks.map((check) => check()))
}, 180_000)

/** Of commands that go on. */
const checks: (() => Promise<void>)[] = []

async function run({ line, output }: Command): Promise<void> {
  const command = line.replaceAll('127.0.0.1:8080', `127.0.0.1:${port}`)
  if (/npm start$/.test(command)) {
    const child = start(command)
    // On a terminal, the log is shown in lines for people.
    const messages = [...output.matchAll(/INFO: (.*)$/gm)].map(([, message]) => same(message!))
    await eventually(() => messages.every((message) => same(child.logs()).includes(`"${message}"`)), {
      timeoutMs: 60_000,
    })
    return
  }
  if (/^curl -sN /.test(command)) {
    const child = start(command)
    await eventually(() => child.logs().includes('id: '), { timeoutMs: 20_000 })
    checks.push(() => holds(() => expect(same(child.logs())).toContain(same(output))))
    return
  }
  // A receipt tells of the row a moment later.
  await holds(
    async () => expect([line, same((await tree.shell(command, env())).stdout)]).toEqual([line, same(output)]),
    {
      timeoutMs: 60_000,
    },
  )
}

const env = () => ({ PORT: String(port) })

function start(command: string): Child {
  const path = `${tree.path}/node_modules/.bin:${inherited().PATH}`
  const child = launch('/bin/sh', ['-c', `exec env ${command}`], {
    cwd: tree.path,
    env: { ...inherited(), ...env(), PATH: path },
  })
  background.push(child)
  return child
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

test('docs/models.md shows a model with visibleTo, by, check and fields that defineModel accepts', async () => {
  const example = (language: string) =>
    blocks.find((block) => block.language === language && block.file === undefined)!.text
  await tree.append('prisma/schema.prisma', `\n${example('prisma')}`)
  await tree.write('src/models/parcel.ts', example('ts'))
  await tree.generate()
  await tree.node(['src/models/parcel.ts'])
}, 120_000)

const wrongTypes = `import { defineModel } from './prisma.ts'

defineModel('Comment', {
  columns: {
    // @ts-expect-error there is no such column
    colour: {},
  },
})
defineModel('Comment', {
  columns: {
    // @ts-expect-error there is no such rule
    body: { longest: 1 },
  },
})
defineModel('Comment', {
  columns: {
    // @ts-expect-error a text has no least value
    body: { min: 1 },
    // @ts-expect-error a number has no length
    rating: { maxLength: 1 },
  },
})
defineModel('Comment', {
  columns: {
    // @ts-expect-error the least value of a number is a number
    rating: { min: '1' },
  },
})
// @ts-expect-error there is no such model
defineModel('Remark', {})
// @ts-expect-error there is no such column
defineModel('Comment', { by: [['colour']] })
// @ts-expect-error id is Spillway's
defineModel('Comment', { columns: { id: {} } })
// @ts-expect-error there is no such column
defineModel('Comment', { visibleTo: { colour: 'tenant' } })
// @ts-expect-error there is no such column
defineModel('Comment', { check: ({ colour }) => colour })
defineModel('Comment', {
  check: (input) => {
    const { body, rating } = input
    const text: string = body
    const number: number | null = rating
    // @ts-expect-error the input is what was sent
    input.body = ''
    // @ts-expect-error it may be null
    const sure: number = rating
    return text.length > (number ?? sure) ? undefined : 'too short'
  },
  fields: (t) => ({
    // @ts-expect-error there is no such relation
    nothing: t.relation('nothing', { description: 'Nothing.' }),
    length: t.int({ description: 'Its length.', resolve: ({ body }) => body.length }),
    // @ts-expect-error a text is no number
    wrong: t.int({ description: 'Wrong.', resolve: ({ body }) => body }),
  }),
})
`

test('a wrong name or type in a definition is a compile error, and a right one needs no cast', async () => {
  await tree.write('src/models/wrong-types.ts', wrongTypes)
  await tree.write('tsconfig.models.json', JSON.stringify({ extends: './tsconfig.json', include: ['src/models'] }))
  const { stdout } = await tree
    .shell('tsc --noEmit -p tsconfig.models.json')
    .catch((error: { stdout: string }) => ({ stdout: error.stdout }))
  expect(stdout).toBe('')
}, 120_000)

test('removeModels takes the models of the guide out of a tree, so that tests hold beside added models', async () => {
  await removeModels(tree)
  const { stdout } = await tree.node(['src/commands/migration.ts', 'nothing'])
  expect(stdout).toMatch(/has nothing that the migrations lack/)
  expect(await tree.read('src/models/index.ts')).toContain('models = [Content]')
}, 120_000)
