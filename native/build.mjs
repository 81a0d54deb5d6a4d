#!/usr/bin/env node
// Builds the addon into build/Release. Also stands in for node-gyp under prebuildify, of whose flags only --debug counts.
//   node native/build.mjs [--debug] [--tests] [--card-tests] [--sanitize=address,undefined | --sanitize=thread]
// cmake-js where it is installed (our checkout, CI), plain cmake with node-api-headers where it is not (a consumer).
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { missingTools, runs } from './tools.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const sanitize = process.argv.find((arg) => arg.startsWith('--sanitize='))?.slice('--sanitize='.length) ?? ''
const config = process.argv.includes('--debug') ? 'Debug' : 'Release'
const tests = process.argv.includes('--tests') || sanitize !== ''
// Not build/ itself: node-gyp writes its makefile there, and it may be the one that is running us.
const tree = join('build', sanitize === '' ? 'cmake' : sanitize.split(',')[0])
const jobs = String(process.env.TOKENSIEVE_BUILD_JOBS ?? availableParallelism())

const missing = missingTools()
if (missing) {
  console.error(missing)
  process.exit(1)
}

let cmakeJs
try {
  cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js')
} catch {
  // a consumer's install: cmake-js is a development dependency
}

function run(command, args) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}

// A cache from another generator or folder stops cmake: start over instead.
const cache = join(root, tree, 'CMakeCache.txt')
const home = existsSync(cache)
  ? /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readFileSync(cache, 'utf8'))?.[1]
  : undefined
if (home !== undefined && join(home, '.') !== join(root, '.')) rmSync(join(root, tree), { recursive: true })

const { CUDACXX, CUDAFLAGS } = process.env // told again: a tree that was made without nvcc remembers that
const options = {
  WITH_TESTS: tests ? 'ON' : 'OFF',
  WITH_SANITIZERS: sanitize,
  WITH_CARD_TESTS: process.argv.includes('--card-tests') ? 'ON' : 'OFF',
  ...(CUDACXX && { CMAKE_CUDA_COMPILER: CUDACXX, CMAKE_CUDA_FLAGS: CUDAFLAGS ?? '' }),
}
if (cmakeJs) {
  // In our own builds a warning is an error; a newer compiler's new warning must not stop a consumer's.
  const flags = Object.entries({ ...options, CMAKE_COMPILE_WARNING_AS_ERROR: 'ON' }).map(
    ([key, value]) => `--CD${key}=${value}`,
  )
  const common = ['--out', tree, '--config', config, '--log-level', 'warn']
  run(process.execPath, [cmakeJs, 'configure', ...common, ...flags])
  run(process.execPath, [cmakeJs, 'build', ...common, '--parallel', jobs])
} else {
  const flags = Object.entries({ ...options, CMAKE_BUILD_TYPE: config }).map(([key, value]) => `-D${key}=${value}`)
  const fresh = !existsSync(cache) && runs('ninja') ? ['-G', 'Ninja'] : []
  run('cmake', ['-S', '.', '-B', tree, ...fresh, ...flags])
  run('cmake', ['--build', tree, '--config', config, '--parallel', jobs])
}
