// The package as a user gets it: packed, installed with scripts disabled, imported, required, compiled against.
import { spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))
const work = mkdtempSync(join(tmpdir(), 'tokensieve-package-'))
const user = join(work, 'user')
const installed = join(user, 'node_modules', 'tokensieve')
process.on('exit', () => rmSync(work, { recursive: true, force: true }))

// Not the environment of the npm that runs us: it would tell the inner npm to act on the outer package.
const env: NodeJS.ProcessEnv = { PATH: process.env.PATH, HOME: process.env.HOME, PREBUILDS_ONLY: '1' }
for (const [key, value] of Object.entries(process.env)) {
  if (/^npm_config_(cache|registry|userconfig)$/i.test(key) || /_proxy$/i.test(key)) env[key] = value
}

function run(command: string, args: string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, env, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}\n${stdout}${stderr}${error ?? ''}`)
  return stdout
}

// prebuildify moves build/Release/addon.node away from under the other tests: what it makes is copied into place here.
function pack(): string {
  const [first] = JSON.parse(run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', work], root)) as {
    filename: string
  }[]
  run('tar', ['-xzf', first?.filename ?? '', '-C', work], work)
  const staging = join(work, 'package')
  const prebuilds = join(staging, 'prebuilds', `${process.platform}-${process.arch}`)
  if (!existsSync(prebuilds)) {
    mkdirSync(prebuilds, { recursive: true })
    copyFileSync(join(root, 'build/Release/addon.node'), join(prebuilds, 'tokensieve.node'))
  }
  const [second] = JSON.parse(
    run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', user], staging),
  ) as {
    filename: string
  }[]
  return join(user, second?.filename ?? '')
}

test('the packed package installs without scripts', async (t) => {
  mkdirSync(user)
  writeFileSync(join(user, 'package.json'), '{ "private": true }')
  const tarball = pack()
  run('npm', ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', tarball], user)
  const top = readdirSync(installed).sort()
  for (const name of [
    'CMakeLists.txt',
    'LICENSE',
    'README.md',
    'binding.gyp',
    'dist',
    'native',
    'package.json',
    'prebuilds',
  ])
    t.ok(top.includes(name), name)
  for (const name of ['node_modules', 'lib', 'test', 'build', 'scripts']) t.notOk(top.includes(name), name)
  t.notOk(existsSync(join(user, 'node_modules', 'cmake-js')), 'cmake-js stays with us')
})

test('import, require, types: one implementation behind both', async (t) => {
  cpSync(join(root, 'test/package/consumer'), user, { recursive: true })
  const strict = { module: 'NodeNext', target: 'ES2022', strict: true, types: ['node'], skipLibCheck: false }
  const compilerOptions = { ...strict, typeRoots: [join(root, 'node_modules/@types')] }
  writeFileSync(join(user, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['use.mts', 'use.cts'] }))
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.'], user)
  t.equal(run(process.execPath, ['use.mjs'], user), 'function true\n', 'import')
  t.equal(run(process.execPath, ['use.cjs'], user), 'function true\n', 'require')
  const same =
    "const a = require('tokensieve'); import('tokensieve').then((b) => console.log(Object.keys(a).filter((k) => a[k] !== b[k]).join() || 'same'))"
  t.equal(run(process.execPath, ['-e', same], user), 'same\n')
})

test('the addon loads in worker threads, from the prebuild alone', async (t) => {
  const program = `
    const { Worker, isMainThread } = require('node:worker_threads')
    const name = require('tokensieve').kernels.backends()[0].name
    if (isMainThread) for (let i = 0; i < 4; i++) new Worker(__filename).on('exit', (code) => console.log(code))
    else if (!name) process.exit(1)`
  writeFileSync(join(user, 'worker.cjs'), program)
  t.equal(run(process.execPath, ['worker.cjs'], user), '0\n0\n0\n0\n')
})

test('the command is there', async (t) => {
  const program = join(user, 'node_modules', '.bin', 'tokensieve')
  t.match(run(program, ['methods'], user), /snapkv/)
})

test('the install script needs nothing where a prebuild loads', async (t) => {
  t.equal(run(process.execPath, [join(installed, 'native/install.mjs')], installed), '')
})
