// The peer, in this folder and only when it is needed.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'

export const PEER = '3.22.1'

/** Its binary for this machine alone: its package would bring those for CUDA and Vulkan too. */
export function installPeer(folder) {
  const there = `${folder}node_modules/node-llama-cpp/package.json`
  if (existsSync(there) && JSON.parse(readFileSync(there, 'utf8')).version === PEER) return
  const system = { darwin: 'mac', win32: 'win' }[process.platform] ?? process.platform
  const binary = `${system}-${process.arch}${system === 'mac' && process.arch === 'arm64' ? '-metal' : ''}`
  const wanted = [`node-llama-cpp@${PEER}`, `@node-llama-cpp/${binary}@${PEER}`]
  const options = ['--no-save', '--no-package-lock', '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund']
  console.error(`installing ${wanted.join(' and ')} in bench/`)
  const { status } = spawnSync('npm', ['install', ...options, ...wanted], { cwd: folder, stdio: ['ignore', 2, 2] })
  if (status !== 0) process.exit(1)
}
