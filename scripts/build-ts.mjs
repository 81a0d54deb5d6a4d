// lib/**/*.ts -> dist: declarations by tsc (which checks the types), CommonJS code, and an ES module over it. One
// implementation behind both entries: a class, an error or a model is the same object for whoever imports or requires.
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import vm from 'node:vm'
import ts from 'typescript'

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
}

const sources = readdirSync(lib, { recursive: true })
  .filter((name) => name.endsWith('.ts'))
  .sort()

function emit(name) {
  const path = join(lib, name)
  const target = join(dist, name.replace(/\.ts$/, '.js'))
  if (existsSync(target) && statSync(target).mtimeMs > statSync(path).mtimeMs) return
  // The name ends in .cts so that the compiler takes it for CommonJS, whatever package.json says.
  const fileName = path.replace(/\.ts$/, '.cts')
  const { outputText, sourceMapText } = ts.transpileModule(readFileSync(path, 'utf8'), { compilerOptions, fileName })
  const map = JSON.parse(sourceMapText)
  map.file = undefined
  map.sources = [relative(dirname(target), path)]
  const url = `${target.split(/[\\/]/).at(-1)}.map`
  const code = outputText.replace(/\/\/# sourceMappingURL=.*/, `//# sourceMappingURL=${url}`)
  checkSyntax(code, relative(root, path))
  mkdirSync(dirname(target), { recursive: true })
  writeFileSync(target, code)
  writeFileSync(`${target}.map`, JSON.stringify(map))
  if (code.startsWith('#!')) chmodSync(target, 0o755)
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
  const expected = new Set(sources.map((name) => name.replace(/\.ts$/, '')))
  for (const name of readdirSync(dist, { recursive: true })) {
    const stem = name.replace(/(\.js|\.js\.map|\.d\.ts)$/, '')
    if (stem !== name && !expected.has(stem)) rmSync(join(dist, name))
  }
}

function writeEntries() {
  writeFileSync(join(dist, 'package.json'), '{ "type": "commonjs" }\n')
  writeFileSync(join(dist, 'index.mjs'), "export * from './index.js'\n")
  writeFileSync(join(dist, 'index.d.mts'), "export * from './index.js'\n")
}

removeStale()
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
if (status !== 0) process.exit(status ?? 1)
for (const name of sources) emit(name)
writeEntries()
