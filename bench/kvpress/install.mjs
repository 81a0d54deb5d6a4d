// kvpress and torch in a virtual environment of their own, only when they are needed: several gigabytes, since the torch of the registry brings the libraries of GPUs along.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const WANTED = ['torch==2.9.1', 'kvpress==0.5.5', 'transformers==5.2.0', 'gguf==0.19.0']

/** The environment's python. */
export function python(folder) {
  const found = `${folder}/bin/python`
  if (existsSync(found)) return found
  console.error(`installing ${WANTED.join(', ')} in ${folder}`)
  run('python3', ['-m', 'venv', folder])
  run(`${folder}/bin/pip`, ['install', '--quiet', ...WANTED])
  return found
}

export function run(command, args, options = {}) {
  const { status } = spawnSync(command, args, { stdio: ['ignore', 2, 2], ...options })
  if (status !== 0) throw new Error(`${command} ended with ${status}`)
}
