// The install script: a prebuild that loads needs nothing, else build from source. Never through node-gyp, which
// downloads Node's headers.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

function loads() {
  try {
    createRequire(import.meta.url)('./load.cjs').loadAddon()
    return true
  } catch {
    return false
  }
}

if (process.env.npm_config_build_from_source === 'true' || !loads()) {
  const build = fileURLToPath(new URL('build.mjs', import.meta.url))
  process.exitCode = spawnSync(process.execPath, [build], { stdio: 'inherit' }).status ?? 1
}
