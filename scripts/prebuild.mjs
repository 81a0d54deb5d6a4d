// npm run prebuildify: the binary that the package ships, with CUDA kernels for whoever has a card (it loads without one
// and then knows of none). Holds the kernels to their table of registers and the binary to its size.
//   node scripts/prebuild.mjs [--no-cuda] [--write]   --write: the table as it is now
import { spawnSync } from 'node:child_process'
import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findNvcc } from './nvcc.mjs'
import { compareResources, resources, writeResources } from './ptxas.mjs'
import { announce, bin, root, stop } from './step.mjs'

const MOST = 12 * 2 ** 20

const cuda = process.argv.includes('--no-cuda') ? null : findNvcc()
if (cuda === null && !process.argv.includes('--no-cuda'))
  stop('expected nvcc: set CUDACXX, or let pip install it (python3 -m pip), or build without: --no-cuda')

announce('prebuildify')
if (cuda !== null) rmSync(join(root, 'build/cmake/CMakeFiles/cuda.dir'), { recursive: true, force: true }) // what is not compiled says nothing
const env = { ...process.env, ...(cuda !== null && { CUDACXX: cuda, CUDAFLAGS: '-Xptxas=-v' }) }
const args = [bin('prebuildify/bin.js'), '--napi', '--strip', '--node-gyp', './native/build.mjs']
const { status, stdout, stderr } = spawnSync(process.execPath, args, {
  cwd: root,
  env,
  encoding: 'utf8',
  maxBuffer: 2 ** 28,
})
const log = `${stdout}\n${stderr}`
writeFileSync(join(root, 'build', 'prebuild.log'), log)
if (status !== 0) stop(`${log.slice(-4000)}\nprebuildify failed: all it said is in build/prebuild.log`)

announce('what was built')
const folder = join(root, 'prebuilds', `${process.platform}-${process.arch}`)
for (const name of readdirSync(folder)) {
  const size = statSync(join(folder, name)).size
  console.error(`${name}: ${(size / 2 ** 20).toFixed(1)} MiB`)
  if (size > MOST) stop(`expected at most ${MOST / 2 ** 20} MiB`)
}
if (cuda !== null) {
  const now = resources(log)
  console.error(`${Object.keys(now).length} kernels and architectures, nvcc at ${cuda}`)
  if (Object.keys(now).length === 0) stop('expected ptxas to say what the kernels take: was CUDA found?')
  if (process.argv.includes('--write')) writeResources(now)
  const said = compareResources(now)
  if (said.length > 0)
    stop(`${said.join('\n')}\nIf that is meant, write the table anew: node scripts/prebuild.mjs --write`)
}
