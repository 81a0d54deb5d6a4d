// lib/**/*.ts -> dist: declarations by tsc (which checks the types), CommonJS code by rolldown, and an ES module over it.
// All of lib/ but the command line is one file of code, tokensieve.js: 184 files, each looked for, read and compiled alone,
// took 60 ms more of every start. A module keeps its path as a few lines that lead there, so that a class, an error or a
// model is the same object for whoever imports or requires.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'

const root = fileURLToPath(new URL('..', import.meta.url))
const lib = join(root, 'lib')
const dist = join(root, 'dist')
const inside = (folder) => (id) => id.startsWith(folder + sep)
// main.ts runs the command line when it is loaded, so it stays a file of its own.
const commandLine = (id) => inside(join(lib, 'cli'))(id) && id !== join(lib, 'cli', 'main.ts')

const sources = readdirSync(lib, { recursive: true })
  .filter((name) => name.endsWith('.ts'))
  .sort()

function removeStale() {
  if (!existsSync(dist)) return
  const expected = new Set(sources.map((name) => name.replace(/\.ts$/, '.d.ts')))
  for (const name of readdirSync(dist, { recursive: true }))
    if (/\.(js|map)$/.test(name) || (name.endsWith('.d.ts') && !expected.has(name))) rmSync(join(dist, name))
}

async function bundle() {
  const found = await rolldown({
    input: Object.fromEntries(sources.map((name) => [name.replace(/\.ts$/, ''), join(lib, name)])),
    external: (id) => (!id.startsWith('.') && !id.startsWith(root)) || id.endsWith('.cjs'),
    platform: 'node',
    preserveEntrySignatures: 'allow-extension',
    checks: { ineffectiveDynamicImport: false }, // in ES modules, which this is made from, they are
    // What it warns of would fail when it is loaded, or not at all.
    onLog(level, { message }) {
      if (level === 'warn') throw new Error(message)
    },
  })
  const { output } = await found.write({
    dir: dist,
    format: 'cjs',
    exports: 'named',
    sourcemap: true,
    comments: false,
    entryFileNames: '[name].js',
    chunkFileNames: '[name].js',
    codeSplitting: {
      groups: [
        { name: 'tokensieve', test: (id) => inside(lib)(id) && !inside(join(lib, 'cli'))(id) },
        { name: 'cli/cli', test: commandLine },
      ],
    },
  })
  await found.close()
  return output
}

// Packages and Node's own modules are required when they are first used, which most programs never do: half of what an
// import of the package takes. Their names become properties of `$` of the same length, so that the source map stays true.
function defer(file) {
  const code = readFileSync(file, 'utf8')
  const paths = {}
  const rest = code.replaceAll(/^let (\w+) = require\("([^."][^"]*)"\);$/gm, (_, name, path) => {
    paths[name] = path
    return ''
  })
  const words = Object.keys(paths).join('|')
  const other = rest.match(new RegExp(`\\b(?:${words})\\b(?!\\.)|(?<![\\w.])\\$\\.\\w`))
  const lazy = Object.fromEntries(Object.entries(paths).map(([name, path]) => [name.slice(2), path]))
  if (other || Object.keys(lazy).length < Object.keys(paths).length)
    throw new Error(`tokensieve.js cannot require later what it uses as ${other?.[0] ?? words}`)
  const short = ascii(rest).replaceAll(new RegExp(`\\b(?:${words})(?=\\.)`, 'g'), (name) => `$.${name.slice(2)}`)
  const head = `const $ = (${lazily})(${JSON.stringify(lazy)}, require)\n`
  const lines = head.split('\n').length // as many empty ones are left where modules were required: none is added
  if (!short.includes('\n'.repeat(lines))) throw new Error('tokensieve.js has no room for what requires later')
  writeFileSync(
    file,
    short.replace('\n'.repeat(lines), () => `\n${head}`),
  )
}

// V8 keeps a source of other characters in two bytes each. They stand in strings, templates and patterns only.
function ascii(code) {
  return code.replaceAll(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

// Goes into the bundle as it is.
function lazily(paths, require) {
  const modules = {}
  for (const [name, path] of Object.entries(paths)) {
    const get = () => Object.defineProperty(modules, name, { value: require(path) })[name]
    Object.defineProperty(modules, name, { get, configurable: true })
  }
  return modules
}

function writeEntries(output) {
  const { exports } = output.find(({ fileName }) => fileName === 'index.js')
  writeFileSync(join(dist, 'package.json'), '{ "type": "commonjs" }\n')
  // Not `import all from`: Node would first read all of the bundle for the names of its exports, 40 ms.
  const require =
    "import { createRequire } from 'node:module'\n\nconst all = createRequire(import.meta.url)('./index.js')\n"
  writeFileSync(join(dist, 'index.mjs'), `${require}export const { ${exports.join(', ')} } = all\n`)
  writeFileSync(join(dist, 'index.d.mts'), "export * from './index.js'\n")
}

removeStale()
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
if (status !== 0) process.exit(status ?? 1)
const output = await bundle()
defer(join(dist, 'tokensieve.js'))
writeEntries(output)
