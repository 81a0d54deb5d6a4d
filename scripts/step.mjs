// Shared by the scripts of the checkout: numbered steps, and programs whose failure ends the script.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

export function stop(message, code = 1) {
  console.error(message)
  process.exit(code)
}

// Runs a program in the checkout with our own streams; returns whether it succeeded.
export function run(command, args, options = {}) {
  const { status, signal, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
  if (error) console.error(`${command}: ${error.message}`)
  if (signal) console.error(`${command} was ended by ${signal}`)
  return status === 0
}

export const node = (args, options) => run(process.execPath, args, options)

// A program of a dependency, by the file its package.json names: no shell, no npx.
export const bin = (path) => join(root, 'node_modules', path)

export function mustRun(command, args, options) {
  if (!run(command, args, options)) process.exit(1)
}

const began = Date.now()
export function announce(title) {
  console.error(`\n== ${title} (${Math.round((Date.now() - began) / 1000)} s)`)
}
