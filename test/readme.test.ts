// The documentation says what the code does: tables are the lists, links lead somewhere, and the README's code runs.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { errorTable, fill, methodPages, methodTable } from '../lib/cli/markdown.js'
import { methods } from '../lib/index.js'
import { cli } from './cli-run.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'bench/README.md',
  ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`),
]

t.test('what is made from the code is up to date: else run node scripts/docs.mjs', async (t) => {
  const made: [string, string, string][] = [
    ['README.md', 'methods', methodTable(methods.list())],
    ['docs/methods.md', 'pages', methodPages(methods.list())],
    ['docs/errors.md', 'errors', errorTable()],
  ]
  for (const [path, name, content] of made) t.equal(fill(read(path), name, content), read(path), path)
})

t.test('links lead somewhere', async (t) => {
  const anchors = (text: string) =>
    [...text.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replace(/ /g, '-'),
    )
  for (const page of pages) {
    const prose = read(page).replace(/^ *```[\s\S]*?^ *```$/gm, '')
    for (const [, link = ''] of prose.matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? page : join(dirname(page), path)
      t.ok(existsSync(join(root, target)), `${page}: ${link}`)
      if (anchor !== undefined) t.ok(anchors(read(target)).includes(anchor), `${page}: ${link}`)
    }
  }
})

t.test('the commands and methods of the README are there', async (t) => {
  const text = read('README.md')
  const listed = [...text.matchAll(/^tokensieve (\w+)(?= .* {2}| -)/gm)].map(([, name = '']) => name)
  const known = [...(await cli(['--help'])).out.matchAll(/^ {2}(\w+) /gm)].map(([, name = '']) => name)
  t.same(listed.sort(), known.sort())
  const scripts = Object.keys((JSON.parse(read('package.json')) as { scripts: object }).scripts)
  for (const page of pages) {
    for (const [, name = ''] of read(page).matchAll(/npm (?:run )?([\w:]+)/g))
      t.ok([...scripts, 'install', 'ci'].includes(name), `${page}: npm run ${name}`)
    for (const [, name = ''] of read(page).matchAll(/`methods\.(\w+)/g))
      t.ok(name in methods, `${page}: methods.${name}`)
  }
})

t.test('the code of the README runs', async (t) => {
  const folder = scratch(t)
  const model = writeGguf(join(folder, 'tiny.gguf'), tinyModel({ headSize: 32 }))
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(root, join(folder, 'node_modules', 'tokensieve'))
  const blocks = [...read('README.md').matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(([, code = '']) => code)
  t.equal(blocks.length, 3)
  t.ok(
    (blocks[0] ?? '')
      .trim()
      .split('\n')
      .filter((line) => line !== '').length <= 10,
    'ten lines',
  )
  const close = 'await model.close()\n'
  const code = [
    `const report = ${JSON.stringify('the sea is wide and the sea is deep. '.repeat(4))}`,
    ...blocks.map((block) => block.replace("await pull('smollm2')", JSON.stringify(model)).replace(close, '')),
    'await thinned.generate("the sea", { maxTokens: 2 })',
    'console.log(JSON.stringify(thinned.plan[0].keptPerHead))',
    close,
  ]
  writeFileSync(join(folder, 'example.mjs'), code.join('\n'))
  const { status, stderr, stdout } = spawnSync(process.execPath, ['example.mjs'], { cwd: folder, encoding: 'utf8' })
  t.equal(status, 0, stderr)
  t.match(stdout, /method: 'snapkv'/)
  t.match(stdout, /seen: \d+/)
  t.match(stdout, /\[\[0,2,4(,\d+)*\],\[0,2,4/)
})
