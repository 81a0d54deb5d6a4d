// lib/**/*.ts -> dist: declarations by tsc (which checks the types), CommonJS code, and an ES module over it. One
// implementation behind both entries: a class, an error or a model is the same object for whoever imports or requires.
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import vm from 'node:vm'
import ts from 'typescript'
import { bundle, reachable } from './bundle.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const lib = join(root, 'lib')
const dist = join(root, 'dist')

const compilerOptions = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.Node16, // keeps import() as it is
  esModuleInterop: true,
  isolatedModules: true,
  sourceMap: true,
  inlineSources: true,
  removeComments: true,
}
const BUNDLE = 'tokensieve.js'

const sources = readdirSync(lib, { recursive: true })
  .filter((name) => name.endsWith('.ts'))
  .sort()

const targetOf = (name) => name.replace(/\.ts$/, '.js')

/** The module as CommonJS, and its source map. */
function compile(name) {
  const path = join(lib, name)
  // The name ends in .cts so that the compiler takes it for CommonJS, whatever package.json says.
  const fileName = path.replace(/\.ts$/, '.cts')
  const { outputText, sourceMapText } = ts.transpileModule(readFileSync(path, 'utf8'), { compilerOptions, fileName })
  const code = outputText.replace(/\/\/# sourceMappingURL=.*\n?/, '')
  checkSyntax(code, relative(root, path))
  return { code, map: { ...JSON.parse(sourceMapText), file: undefined, sourceRoot: undefined } }
}

const upTo = (name) => '../'.repeat(name.split('/').length - 1) || './'

function write(name, code, map) {
  const target = join(dist, name)
  mkdirSync(dirname(target), { recursive: true })
  writeFileSync(target, map ? `${code}//# sourceMappingURL=${name.split('/').at(-1)}.map\n` : code)
  if (map) writeFileSync(`${target}.map`, JSON.stringify(map))
  else rmSync(`${target}.map`, { force: true })
  if (code.startsWith('#!')) chmodSync(target, 0o755)
}

// What the package's entry needs goes into one file; a file of a module's own name leads there. The rest, which is the
// command line, is a file a module.
function emit(modules) {
  const names = reachable(modules, 'index.js')
  for (const [name, { code, map }] of modules) {
    const source = name.replace(/\.js$/, '.ts')
    map.sources = [relative(names.has(name) ? dist : dirname(join(dist, name)), join(lib, source))]
    if (!names.has(name)) write(name, code, map)
    else write(name, `'use strict'\nmodule.exports = require('${upTo(name)}${BUNDLE}')('${name}')\n`)
  }
  const { code, map } = bundle(modules, names)
  write(BUNDLE, code, map)
}

// import.meta and top-level await compile without a complaint and fail when loaded: find them here.
function checkSyntax(code, name) {
  try {
    new vm.Script(`(function (exports, require, module, __filename, __dirname) {${code.replace(/^#!.*/, '')}\n})`)
  } catch (error) {
    throw new Error(`${name} cannot be CommonJS (import.meta and top-level await are not for lib/): ${error.message}`)
  }
}

function removeStale() {
  if (!existsSync(dist)) return
  const expected = new Set([BUNDLE.replace(/\.js$/, ''), ...sources.map((name) => name.replace(/\.ts$/, ''))])
  for (const name of readdirSync(dist, { recursive: true })) {
    const stem = name.replace(/(\.js|\.js\.map|\.d\.ts)$/, '')
    if (stem !== name && !expected.has(stem)) rmSync(join(dist, name))
  }
}

function writeEntries({ code }) {
  const names = [...code.matchAll(/^Object\.defineProperty\(exports, "(\w+)", \{ enumerable: true/gm)].map(
    ([, name]) => name,
  )
  writeFileSync(join(dist, 'package.json'), '{ "type": "commonjs" }\n')
  // Not `import all from`: Node would first read all of the bundle for the names of its exports, 40 ms.
  const require =
    "import { createRequire } from 'node:module'\n\nconst all = createRequire(import.meta.url)('./index.js')\n"
  writeFileSync(join(dist, 'index.mjs'), `${require}export const { ${names.join(', ')} } = all\n`)
  writeFileSync(join(dist, 'index.d.mts'), "export * from './index.js'\n")
}

removeStale()
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
if (status !== 0) process.exit(status ?? 1)
const modules = new Map(sources.map((name) => [targetOf(name), compile(name)]))
emit(modules)
writeEntries(modules.get('index.js'))
