// The import table and the size budgets. What is allowed is listed; everything else is an error that names both files.
import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { cppFunctions, includes, tsFunctions, tsImports } from './source.js'

const root = fileURLToPath(new URL('..', import.meta.url))

function files(folder: string, pattern: RegExp): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => posix.join(folder, name.split('\\').join('/')))
    .filter((name) => pattern.test(name) && !name.startsWith('test/fixtures/'))
    .sort()
}
const text = (name: string) => readFileSync(join(root, name), 'utf8')

const native = files('native', /\.(h|inc|cc|cu)$/)
const lib = files('lib', /\.ts$/)
const scripts = [...files('scripts', /\.mjs$/), ...files('native', /\.[mc]js$/)]
const tests = [...files('test', /\.(ts|mjs|h|cc)$/)]
const { dependencies: required, optionalDependencies: optional } = JSON.parse(text('package.json')) as Record<
  string,
  object
>
const dependencies = Object.keys({ ...required, ...optional })

// room of a file -> what its quoted includes may begin with
const ROOMS: { room: RegExp; may: RegExp; system?: RegExp }[] = [
  { room: /^native\/core\//, may: /^core\// },
  { room: /^native\/kernels\/[^/]+$/, may: /^(core\/|kernels\/[^/]+\.(h|inc)$)/ },
  { room: /^native\/kernels\/reference\//, may: /^(core\/|kernels\/([^/]+|reference\/[^/]+)\.(h|inc)$)/ },
  {
    room: /^native\/kernels\/cpu\//,
    may: /^(core\/|kernels\/([^/]+|cpu\/[^/]+)\.(h|inc)$)/,
    // An inline function of the standard library would be merged by the linker with another instruction set's.
    system: /^(immintrin\.h|arm_neon\.h|cstdint|cstddef|cstring|cmath|cfloat|climits)$/,
  },
  { room: /^native\/kernels\/cuda\/nvcc\//, may: /^(device\.h$|core\/|kernels\/cuda\/(nvcc\/)?[^/]+\.h$)/ },
  // device.h: nvcc's, or the one of test/native/simt, as the build says.
  { room: /^native\/kernels\/cuda\//, may: /^(device\.h$|core\/|kernels\/([^/]+|cuda\/[^/]+)\.(h|inc)$)/ },
  { room: /^native\/engine\//, may: /^(core\/|engine\/|kernels\/[^/]+\.h$)/ },
  { room: /^native\/addon\//, may: /^(core\/|engine\/|addon\/|kernels\/[^/]+\.h$)/ },
]
const NODE_HEADER = /^(napi\.h|node_api\.h|js_native_api\.h|uv\.h|node\.h|v8\.h)$/

test('native: who may include whom', async (t) => {
  for (const name of native) {
    const rule = ROOMS.find(({ room }) => room.test(name))
    t.ok(rule, `${name} stands in a room`)
    for (const { path, system } of includes(text(name))) {
      if (NODE_HEADER.test(path)) t.match(name, /^native\/addon\//, `${name} includes ${path}`)
      else if (system) t.ok(!rule?.system || rule.system.test(path), `${name} may not include <${path}>`)
      else t.ok(rule?.may.test(path), `${name} may not include "${path}"`)
    }
  }
})

// Methods decide and nothing else: contracts, plans, budgets, errors. index.ts is the list; the contracts may name native's types.
function methodMay(name: string, target: string, typeOnly: boolean): boolean {
  const lists = ['lib/methods/index.ts', 'lib/methods/presets.ts'] // they name methods
  if (lists.includes(name) && target.startsWith('lib/methods/')) return true
  if (name === 'lib/methods/presets.ts' && typeOnly && target === 'lib/kv.ts') return true
  if (/^lib\/(plan|budget|errors)\.ts$/.test(target)) return true
  if (/^lib\/methods\/[^/]+\.ts$/.test(target) && target !== 'lib/methods/index.ts') return true
  return typeOnly && target === 'lib/native.ts' && /^lib\/methods\/[^/]+\.ts$/.test(name)
}

test('lib: who may import whom', async (t) => {
  for (const name of lib) {
    for (const { path, typeOnly } of tsImports(name, text(name))) {
      const said = `${name} may not import ${path}`
      if (path.startsWith('.')) {
        const target = posix.normalize(posix.join(dirname(name), path)).replace(/\.js$/, '.ts')
        if (target === 'native/load.cjs') t.equal(name, 'lib/native.ts', said)
        else if (name.startsWith('lib/methods/')) t.ok(methodMay(name, target, typeOnly), said)
        else t.match(target, /^lib\//, said)
      } else if (!path.startsWith('node:')) {
        const packageName = path
          .split('/')
          .slice(0, path.startsWith('@') ? 2 : 1)
          .join('/')
        t.ok(dependencies.includes(packageName), `${said}: not a dependency`)
        t.not(packageName, 'node-gyp-build', said)
        t.notOk(name.startsWith('lib/methods/'), said)
      }
    }
  }
})

test('every dependency is used', async (t) => {
  const users = [...lib.map(text), text('native/load.cjs'), text('CMakeLists.txt')].join('\n')
  for (const name of dependencies) t.ok(users.includes(name), name)
})

const lineCount = (name: string) => text(name).split('\n').length - 1
function fileBudget(name: string): number {
  if (/^lib\/methods\/[^/]+\//.test(name)) return 150
  return name.startsWith('native/kernels/') ? 300 : 400
}

test('no file grows into a list of unlike things', async (t) => {
  for (const name of [...native, ...lib, ...scripts, ...tests]) {
    const lines = lineCount(name)
    t.ok(lines <= fileBudget(name), `${name}: ${lines} lines of ${fileBudget(name)}`)
  }
})

test('no function is longer than a page', async (t) => {
  for (const name of [...native, ...lib, ...scripts, ...tests]) {
    const cpp = /\.(h|cc|cu)$/.test(name)
    for (const { title, line, lines } of cpp ? cppFunctions(text(name)) : tsFunctions(name, text(name))) {
      t.ok(lines <= 50, `${name}:${line} ${title}: ${lines} lines of 50`)
    }
  }
})

test('every kernel has its line, its reference, its CPU source and its test', async (t) => {
  const calls = [...text('CMakeLists.txt').matchAll(/^add_kernel\(([\w\s]+)\)$/gm)].map(
    ([, names]) => names?.split(/\s+/) ?? [],
  )
  t.ok(calls.length > 0)
  for (const [kernel] of calls) {
    for (const name of [`native/kernels/reference/${kernel}.cc`, `native/kernels/cpu/${kernel}.cc`]) {
      t.ok(native.includes(name), name)
    }
    t.ok(tests.includes(`test/native/${kernel}.test.cc`), `test/native/${kernel}.test.cc`)
  }
  const parts = [...calls.flat(), 'backend']
  for (const name of native.filter((file) => /kernels\/(reference|cpu)\/.*\.cc$/.test(file))) {
    t.ok(parts.includes(basename(name, '.cc')), `${name} is in CMakeLists.txt`)
  }
})

test('the rules find what they forbid', async (t) => {
  const long = `int f(int a) {\n${'  a++;\n'.repeat(60)}}\n`
  t.match(cppFunctions(`namespace x {\nstruct S { int y = 0; };\n${long}}`), [{ title: 'f', line: 3, lines: 62 }])
  t.match(tsFunctions('a.ts', `const f = () => {\n${'  1\n'.repeat(60)}}`), [{ title: 'f', lines: 62 }])
  t.same(includes('#include <napi.h>\n // #include "no.h"\n#include "core/error.h"'), [
    { path: 'napi.h', system: true },
    { path: 'core/error.h', system: false },
  ])
  const imports = tsImports(
    'a.ts',
    "import type { A } from './a.js'\nexport * from './b.js'\nconst c = await import('c')",
  )
  t.same(imports, [
    { path: './a.js', typeOnly: true },
    { path: './b.js', typeOnly: false },
    { path: 'c', typeOnly: false },
  ])
})
