// What dropping patches costs on both embedded models: the tables of docs/pictures.md and the curves of docs/pictures.html.
//   node bench/patches.mjs [--each 20] [--threads 1]        asks, four to five minutes of a quiet machine
//   node bench/patches.mjs --from a.json --from b.json      draws what `compare --json` found
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const { visualPage } = require('../dist/report/visual-page.js')
const { markdownTable } = require('../dist/cli/format.js')
const { fill } = require('../dist/cli/markdown.js')
const at = (path) => fileURLToPath(new URL(path, import.meta.url))

const MODELS = ['vlm', 'vlm-judge']
const METHODS = [
  ...['fastv', 'tome', 'pyramidDrop', 'sparseVlm', 'dyvte', 'llavolta', 'atpLlava', 'mustDrop'],
  ...['tome:acts=vision', 'vtcCls', 'divPrune', 'fopru', 'pitome', 'turbo', 'tokenCorr', 'globalCom2', 'vmtcCmai'],
  ...['aim', 'visionZip', 'clca', 'svitSta', 'pvc', 'tempMe'],
]
const KEEPS = [0.5, 0.25, 0.125, 0.0625]

const { values } = parseArgs({
  options: {
    from: { type: 'string', multiple: true },
    each: { type: 'string', default: '20' },
    threads: { type: 'string' },
  },
})

function ask(model) {
  const methods = METHODS.flatMap((method) => ['--method', method])
  const words = ['compare', '--task', 'pictures', '-m', model, '--keep', KEEPS.join(), '--each', values.each, '--json']
  const threads = values.threads ? ['--threads', values.threads] : []
  const { status, stdout } = spawnSync(
    process.execPath,
    [at('../dist/cli/main.js'), ...words, ...methods, ...threads],
    { encoding: 'utf8', maxBuffer: 2 ** 30, stdio: ['ignore', 'pipe', 'inherit'] },
  )
  if (status !== 0) process.exit(1)
  return stdout
}

const percent = (share) => (100 * share).toFixed(1)

/** ↑ or ↓: more or fewer right answers than chance has at the same budget, with 95 % of bootstrap means on that side. */
function cell(row) {
  if (!row) return ''
  const { high = 0, low = 0 } = row.overRandom ?? {}
  return `${percent(row.right.mean)}${low > 0 ? ' ↑' : high < 0 ? ' ↓' : ''}`
}

/** A line for each method; in brackets, under a quarter, those that have a budget of their own. */
function tableOf({ rows }) {
  const all = rows.find(({ method }) => method === 'full')
  const patches = Math.round(all.visual)
  const names = [...new Set(rows.map(({ method }) => method))].filter((name) => name !== 'full')
  const lines = names.map((name) => {
    const own = rows.filter(({ method }) => method === name)
    const quarter = own.find(({ keep }) => keep === 0.25) ?? own[0]
    const cells = KEEPS.map((keep) => cell(own.find((row) => row.keep === keep)))
    if (own[0].keep === null) cells[1] = `(${cell(own[0])})`
    return [
      name,
      ...cells,
      `${Math.round(quarter.visual)} of ${patches}`,
      ...[quarter.vision, quarter.prefill, quarter.decode].map((ms) => ms.toFixed(1)),
    ]
  })
  const right = (title) => ({ title, right: true })
  const times = ['patches a layer', 'tower ms', 'prompt ms', 'answer ms']
  const columns = [{ title: 'method' }, ...KEEPS.map((keep) => right(`keep ${keep}`)), ...times.map(right)]
  const whole = `${all.cases} questions, all patches: ${percent(all.right.mean)} % right; tower ${all.vision.toFixed(1)} ms, prompt ${all.prefill.toFixed(1)} ms, answer ${all.decode.toFixed(1)} ms.`
  return `${whole}\n\n${markdownTable(columns, lines)}`
}

const found = (values.from ?? MODELS.map(ask)).map((text) =>
  JSON.parse(values.from ? readFileSync(text, 'utf8') : text),
)
writeFileSync(at('../docs/pictures.html'), visualPage(found))
const page = at('../docs/pictures.md')
let text = readFileSync(page, 'utf8')
for (const [i, one] of found.entries()) text = fill(text, MODELS[i], tableOf(one))
writeFileSync(page, text)
