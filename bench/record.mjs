// Sections of `tokensieve bench`, written into docs/performance.md. Arguments after the section go to the program.
//   node bench/record.mjs growth|sessions|dropping|pictures|speed [-m model.gguf]… [--prompt 512,2048] …
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const { fill } = createRequire(import.meta.url)('../dist/cli/markdown.js')
const program = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))
const page = fileURLToPath(new URL('../docs/performance.md', import.meta.url))

const [section, ...words] = process.argv.slice(2)
const run = spawnSync(process.execPath, [program, 'bench', '--section', section ?? '', ...words], {
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
})
process.stdout.write(run.stdout)
if (run.status === 0) {
  // Lines of the head and the notes are lines of the page too.
  const text = run.stdout.trim().replace(/^(?!\|)(.+)$/gm, '$1  ')
  writeFileSync(page, fill(readFileSync(page, 'utf8'), section, text))
}
process.exitCode = run.status ?? 1
