// lib/**/*.ts -> dist: declarations by tsc (which checks the types), CommonJS code by rolldown, and an ES module over it.
// All of lib/ but the command line is one file of code, tokensieve.js: 184 files, each looked for, read and compiled alone,
// took 60 ms more of every start. A module keeps its path as a few lines that lead there, so that a class, an error or a
// model is the same object for whoever imports or requires.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'

const root = fileURLToPath(new URL('..', import.meta.url))
const lib = join(root, 'lib')
const dist = join(root, 'dist')
const inside = (folder) => (id) => id.startsWith(folder + sep)
const commandLine = inside(join(lib, 'cli'))

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
        { name: 'tokensieve', test: (id) => inside(lib)(id) && !commandLine(id) },
        { name: 'cli/cli', test: commandLine },
      ],
    },
  })
  await found.close()
  return output
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
writeEntries(await bundle())
