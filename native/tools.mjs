// What a build needs of the machine, and one sentence for what is missing.
import { spawnSync } from 'node:child_process'

export const runs = (command, args = ['--version']) => spawnSync(command, args, { stdio: 'ignore' }).status === 0

const firstOf = (commands) => commands.find((command) => command && runs(command))

function cmakeVersion() {
  const { stdout } = spawnSync('cmake', ['--version'], { encoding: 'utf8' })
  return /(\d+)\.(\d+)/
    .exec(stdout ?? '')
    ?.slice(1)
    .map(Number)
}

// null when everything is there, else the sentence that names all that is missing and the fix.
export function missingTools() {
  const missing = []
  const version = cmakeVersion()
  const old = version && (version[0] < 3 || (version[0] === 3 && version[1] < 22))
  if (!version || old) missing.push(`CMake 3.22 or newer${old ? ` (this is ${version.join('.')})` : ''}`)
  if (!firstOf([process.env.CXX, 'c++', 'g++', 'clang++'])) missing.push('a C++17 compiler')
  if (!firstOf(['ninja', 'make'])) missing.push('ninja or make')
  if (missing.length === 0) return null
  return (
    `building tokensieve from source needs ${missing.join(', ')}, not found on PATH: on Debian and Ubuntu run ` +
    '`apt-get install cmake ninja-build g++`, on macOS `xcode-select --install && brew install cmake ninja`.'
  )
}
