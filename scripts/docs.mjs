// node scripts/docs.mjs: writes the parts of the documentation that are made from the code. Needs a built dist.
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { root } from './step.mjs'

const require = createRequire(import.meta.url)
const { errorTable, fill, methodPages, methodTable } = require('../dist/cli/markdown.js')
const { methods } = require('../dist/methods/index.js')

function update(path, name, content) {
  const before = readFileSync(join(root, path), 'utf8')
  const after = fill(before, name, content)
  if (after !== before) writeFileSync(join(root, path), after)
  console.log(`${path}: ${after === before ? 'up to date' : 'written'}`)
}

update('README.md', 'methods', methodTable(methods.list()))
update('docs/methods.md', 'pages', methodPages(methods.list()))
update('docs/errors.md', 'errors', errorTable())
