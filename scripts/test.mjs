// npm test: installs and builds what is missing, then ctest (every kernel once for each instruction set that this
// machine can run) and tap. Arguments go to tap: npm test -- test/sampler.test.ts
import { prepare } from './prepare.mjs'
import { announce, bin, node, run } from './step.mjs'

prepare({ tests: true })
const failed = []

announce('native tests (ctest)')
if (!run('ctest', ['--test-dir', 'build/cmake', '--parallel', '2', '--output-on-failure', '--no-tests=error']))
  failed.push('ctest')

announce('tests in TypeScript (tap)')
const env = process.stdout.isTTY ? process.env : { ...process.env, CI: '1' } // one report at the end, not one a second
if (!node([bin('tap/dist/esm/run.mjs'), ...process.argv.slice(2)], { env })) failed.push('tap')

announce(failed.length === 0 ? 'all tests passed' : `failed: ${failed.join(', ')}`)
process.exitCode = failed.length === 0 ? 0 : 1
