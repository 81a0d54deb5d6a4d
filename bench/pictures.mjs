// What dropping patches saves of a prompt with a picture of 576 of them, tower included: `tokensieve bench --section pictures` with towers of random weights.
//   node bench/pictures.mjs clip-l=1b.gguf [clip-s=135m.gguf …] [--runs 3 …] [--write]
// A shape of tower.mjs for each decoder; --write puts the table into docs/performance.md.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SHAPES, writeTower } from './tower.mjs'

const require = createRequire(import.meta.url)
const { native } = require('../dist/native.js')
const at = (path) => fileURLToPath(new URL(path, import.meta.url))

async function widthOf(path) {
  const file = await native().open(path)
  try {
    return file.metadata(`${file.metadata('general.architecture')}.embedding_length`)
  } finally {
    file.close()
  }
}

const words = process.argv.slice(2)
const pairs = words.filter((word) => /^clip-\w=/.test(word))
const rest = words.filter((word) => !pairs.includes(word) && word !== '--write')
const folder = mkdtempSync(join(tmpdir(), 'tokensieve-towers-'))
try {
  const models = []
  for (const pair of pairs) {
    const [shape, path] = pair.split(/=(.*)/s)
    const model = join(folder, `${shape}-${basename(path)}`)
    symlinkSync(resolve(path), model)
    writeTower(model.replace(/\.gguf$/, '.mmproj.gguf'), SHAPES[shape], await widthOf(path))
    models.push('-m', model)
  }
  const how = words.includes('--write')
    ? [at('record.mjs'), 'pictures']
    : [at('../dist/cli/main.js'), 'bench', '--section', 'pictures']
  process.exitCode = spawnSync(process.execPath, [...how, ...models, ...rest], { stdio: 'inherit' }).status ?? 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}
