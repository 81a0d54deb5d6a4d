// From a fresh clone to a built checkout. Nothing is done twice: packages that are installed as the lock file says are
// left alone, and ninja and tsc know what changed.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { missingTools, runs } from '../native/tools.mjs'
import { announce, mustRun, root, stop } from './step.mjs'

const read = (path) => JSON.parse(readFileSync(join(root, path), 'utf8'))

function checkMachine() {
  const { engines } = read('package.json')
  const [wantMajor, wantMinor] = engines.node.replace('>=', '').split('.').map(Number)
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major < wantMajor || (major === wantMajor && minor < wantMinor)) {
    stop(
      `tokensieve needs Node ${wantMajor}.${wantMinor} or newer, this is ${process.versions.node}: install a newer Node.`,
    )
  }
  const missing = missingTools()
  if (missing) stop(missing)
}

function installed() {
  const hidden = 'node_modules/.package-lock.json'
  if (!existsSync(join(root, hidden))) return false
  const there = read(hidden).packages
  return Object.entries(read('package-lock.json').packages).every(
    ([path, entry]) => path === '' || entry.optional || there[path]?.version === entry.version,
  )
}

export function prepare({ tests }) {
  checkMachine()
  if (!installed()) {
    announce('installing the packages of package-lock.json')
    const npm = process.env.npm_execpath
    const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund']
    if (npm?.endsWith('.js')) mustRun(process.execPath, [npm, ...args])
    else if (runs('npm')) mustRun('npm', args)
    else stop('tokensieve needs npm, not found on PATH: install Node together with npm.')
  }
  announce('building the addon')
  mustRun(process.execPath, ['native/build.mjs', ...(tests ? ['--tests'] : [])])
  announce('compiling lib')
  mustRun(process.execPath, ['scripts/build-ts.mjs'])
}
