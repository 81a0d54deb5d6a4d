// npm run test:cuda: on this machine's cards what npm test does on emulated ones: every CUDA kernel, then the engine.
import { spawnSync } from 'node:child_process'
import { findNvcc } from './nvcc.mjs'
import { prepare } from './prepare.mjs'
import { announce, bin, node, root, run, stop } from './step.mjs'

const nvcc = findNvcc()
if (nvcc === null) stop('expected nvcc: set CUDACXX, or let pip install it (python3 -m pip)')
process.env.CUDACXX = nvcc
prepare({ tests: true })
if (!node(['native/build.mjs', '--tests', '--card-tests'])) process.exit(1)

const counted = 'console.log(require("./native/load.cjs").loadAddon().devices().length)'
const { stdout } = spawnSync(process.execPath, ['-e', counted], { cwd: root, encoding: 'utf8' })
if (!(Number(stdout) > 0))
  stop('expected a card: the addon is built with CUDA, but no device was found (is there a driver?)')

const failed = []
announce('kernels (ctest)')
if (!run('ctest', ['--test-dir', 'build/cmake', '-L', 'card', '--output-on-failure', '--no-tests=error'])) {
  failed.push('ctest')
  console.error("these tests need a card that reads all of a process's memory (docs/cuda.md); the engine's do not:")
}
announce('the engine (tap)')
const env = { ...process.env, TOKENSIEVE_CARDS: '1' }
if (
  !node([bin('tap/dist/esm/run.mjs'), '--disable-coverage', 'test/cuda.test.ts', 'test/cuda-caches.test.ts'], { env })
)
  failed.push('tap')
announce(failed.length === 0 ? 'all tests passed' : `failed: ${failed.join(', ')}`)
process.exitCode = failed.length === 0 ? 0 : 1
