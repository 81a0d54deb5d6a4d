// npm run lint [-- --fix]: formats and rules of both languages, types, and the package's own shape.
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { announce, bin, node, root, run } from './step.mjs'

const CLANG_FORMAT = '19.1.7' // one version for everybody: another one formats differently

const fix = process.argv.includes('--fix')
const failed = []
const check = (what, ok) => ok || failed.push(what)

function clangFormat() {
  const home = join(root, '.cache', `clang-format-${CLANG_FORMAT}`)
  const program = join(home, 'clang_format', 'data', 'bin', 'clang-format')
  if (existsSync(program)) return program
  mkdirSync(home, { recursive: true })
  const wanted = ['--quiet', '--no-deps', '--disable-pip-version-check', '--root-user-action=ignore', '--target', home]
  if (run('python3', ['-m', 'pip', 'install', ...wanted, `clang-format==${CLANG_FORMAT}`]) && existsSync(program))
    return program
  console.error('the linter gets clang-format from pip: on Debian and Ubuntu run `apt-get install python3-pip`.')
  return null
}

function nativeSources() {
  const under = (folder) => readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, name))
  return [...under('native'), ...under('test/native')].filter((name) => /\.(h|cc|cu)$/.test(name))
}

announce('clang-format')
const program = clangFormat()
check('clang-format', program && run(program, [...(fix ? ['-i'] : ['--dry-run', '--Werror']), ...nativeSources()]))

announce('biome')
check('biome', node([bin('@biomejs/biome/bin/biome'), 'check', ...(fix ? ['--write'] : []), '--error-on-warnings']))

announce('tsc')
check('tsc', node([bin('typescript/bin/tsc'), '--noEmit']))

announce('publint')
const built = existsSync(join(root, 'dist/index.js')) || node(['scripts/build-ts.mjs'])
check('publint', built && node([bin('publint/src/cli.js'), '--strict']))

announce(failed.length === 0 ? 'lint is clean' : `failed: ${failed.join(', ')}`)
process.exitCode = failed.length === 0 ? 0 : 1
