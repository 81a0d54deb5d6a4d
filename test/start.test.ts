// What the built package loads when it is imported, and what it says of itself afterwards.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'

const root = fileURLToPath(new URL('..', import.meta.url))

function run(program: string, ...options: string[]): string {
  const words = ['--input-type=module', ...options, '-e', program]
  const { status, stderr, stdout } = spawnSync(process.execPath, words, { cwd: root, encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  return stdout
}

test('importing reads one file of code, and no package', async (t) => {
  const out = run(`
    import { createRequire } from 'node:module'
    const read = () => Object.keys(createRequire(import.meta.url).cache)
    const before = new Set(read()) // tap's own
    await import('./dist/index.mjs')
    console.log(JSON.stringify(read().filter((name) => !before.has(name)).map((name) => name.slice(${root.length}))))`)
  t.same(JSON.parse(out), ['dist/index.js', 'dist/tokensieve.js', 'native/load.cjs'])
})

test('a module is the same object by its own path and in the bundle', async (t) => {
  const out = run(`
    import { createRequire } from 'node:module'
    import { TokensieveError, methods } from './dist/index.mjs'
    const require = createRequire(import.meta.url)
    const { TokensieveError: same } = require('./dist/errors.js')
    console.log(same === TokensieveError, require('./dist/methods/index.js').methods === methods)`)
  t.equal(out, 'true true\n')
})

test('the bundle holds one-byte characters only, and says the others', async (t) => {
  t.notMatch(readFileSync(`${root}dist/tokensieve.js`, 'latin1'), /[\x80-\xff]/)
  const out = run(`
    import { methods } from './dist/index.mjs'
    try { methods.snapkv({ window: 'a'.repeat(99) }) } catch (error) { console.log(error.message) }`)
  t.match(out, /a…/)
})

test('source maps lead from the bundle to the line', async (t) => {
  const program = `
    import { load, methods } from './dist/index.mjs'
    await load(3).catch((error) => console.log(error.stack))
    try { methods.snapkv({ window: -1 }) } catch (error) { console.log(error.stack) }`
  const places = [...run(program, '--enable-source-maps').matchAll(/at (\S+) \(\S*\/(lib\/\S+\.ts):(\d+):\d+\)/g)]
  t.ok(places.length >= 4, String(places.length))
  for (const [, called, path = '', line] of places) {
    const text = readFileSync(`${root}${path}`, 'utf8').split('\n')[Number(line) - 1]
    t.match(text, /Error\(|parse|return/, `${called} at ${path}:${line}`)
  }
})
