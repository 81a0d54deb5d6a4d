// npm run test:asan, npm run test:tsan: the native tests, then the addon inside Node, under gcc's sanitizers.
//   node scripts/sanitize.mjs address,undefined|thread [test files for tap]
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { announce, bin, mustRun, node, root, run, stop } from './step.mjs'

const kind = process.argv[2] ?? ''
const tree = join('build', kind.split(',')[0])
const LIBRARY = { 'address,undefined': 'libasan.so', thread: 'libtsan.so' }[kind]
if (!LIBRARY) stop(`expected address,undefined or thread, received ${kind || 'nothing'}`, 2)

const { stdout } = spawnSync(process.env.CXX ?? 'g++', [`-print-file-name=${LIBRARY}`], { encoding: 'utf8' })
const preload = stdout?.trim() ?? ''
if (!preload.startsWith('/')) stop(`${LIBRARY} is missing: on Debian and Ubuntu run \`apt-get install g++\`.`)

announce(`building with -fsanitize=${kind}`)
mustRun(process.execPath, ['native/build.mjs', `--sanitize=${kind}`])

const failed = []
announce('native tests')
// Threads of an emulated card are fibers of one thread, whose stacks gcc's thread sanitizer does not follow.
const leftOut = kind === 'thread' ? ['--exclude-regex', ':cuda:'] : []
if (!run('ctest', ['--test-dir', tree, '--parallel', '2', '--output-on-failure', '--no-tests=error', ...leftOut]))
  failed.push('ctest')

announce('the addon inside Node')
const files = process.argv.slice(3)
const native = readdirSync(join(root, 'test')).filter((name) =>
  /^(session|kernels|load|saved|scheduler|stream|workers).*\.test\.ts$/.test(name),
)
const tests = files.length > 0 ? files : native.map((name) => join('test', name))
const env = {
  ...process.env,
  LD_PRELOAD: preload,
  TOKENSIEVE_PREBUILD: join(root, tree),
  ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1',
  TSAN_OPTIONS: `halt_on_error=1:exitcode=66:suppressions=${join(root, 'test/native/tsan.supp')}`,
}
const options = ['--disable-coverage', '--jobs=1', '--timeout=900', '--reporter=terse']
if (!node([bin('tap/dist/esm/run.mjs'), ...options, ...tests], { env })) failed.push('tap')

announce(failed.length === 0 ? `clean under ${kind}` : `failed: ${failed.join(', ')}`)
process.exitCode = failed.length === 0 ? 0 : 1
