// docs/needles.md's tables and docs/needles.html from what bench/needles.mjs measured.
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const { bootstrap, meanOf } = require('../dist/lab/statistics.js')
const { groupsOf } = require('../dist/lab/groups.js')
const { comparisonPage } = require('../dist/report/comparison.js')
const { markdownTable } = require('../dist/cli/format.js')
const { fill } = require('../dist/cli/markdown.js')

const DOC = new URL('../docs/needles.md', import.meta.url)
const PAGE = new URL('../docs/needles.html', import.meta.url)
/** Whose kept rows the page shows: a picture takes 60 kB. */
const PICTURED = ['snapkv', 'keyDiff']
/** Budgets whose maps of depths it shows: more of them, and a page is too large to open from a repository. */
const MAPPED = [1, 0.25, null]
const FLOORS = ['full', 'random', 'recent']
const right = (title) => ({ title, right: true })
const signed = (value) => `${value > 0.004 ? '+' : ''}${value.toFixed(2)}`.replace('-', '−').replace('−0.00', '0.00')
const within = ({ high, low, mean }) => `${signed(mean)} [${signed(low)}, ${signed(high)}]`
const spot = ({ depth, length, seed }) => `${depth} ${length} ${seed}`
const percent = (share) => `${Math.round(100 * share)} %`

/** Of one task and order: the cases of each method and budget, and what chance makes of each case at any share of the cache. */
function tableau(cases) {
  const counted = cases.filter((one) => one.counted)
  const by = groupsOf(counted, ({ keep, method }) => `${method} ${keep}`)
  const lines = groupsOf(
    counted.filter(({ method }) => method === 'random' || method === 'full'),
    spot,
  )
  const chanceAt = (one) => {
    const line = lines.get(spot(one)).sort((a, b) => a.share - b.share)
    const next = line.findIndex(({ share }) => share >= one.share)
    if (next <= 0) return line[0].logprob
    const [a, b] = [line[next - 1], line[next]]
    return a.logprob + ((b.logprob - a.logprob) * (one.share - a.share)) / (b.share - a.share)
  }
  const over = (method, keep, floor) => {
    const own = by.get(`${method} ${keep}`)
    const chance = new Map(by.get(`${floor} ${keep}`)?.map((one) => [spot(one), one.logprob]))
    return bootstrap(own.map((one) => one.logprob - (floor ? chance.get(spot(one)) : chanceAt(one))))
  }
  const methods = [...new Set(counted.map(({ method }) => method))]
  const keepsOf = (method) => [...new Set(counted.filter((one) => one.method === method).map(({ keep }) => keep))]
  return { by, methods, keepsOf, over, count: by.get('full 1')?.length ?? 0 }
}

const mean = (list, what) => meanOf(list.map((one) => one[what]))

function cacheTable({ by, keepsOf, methods, over }) {
  const keeps = keepsOf('random')
  const cell = (method, keep) => {
    const list = by.get(`${method} ${keep}`)
    if (!list) return ''
    const told =
      method === 'random' ? mean(list, 'logprob').toFixed(2).replace('-', '−') : within(over(method, keep, 'random'))
    return `${told} · ${percent(mean(list, 'exact'))}`
  }
  const swept = methods.filter((name) => name !== 'full' && keepsOf(name).length > 1)
  return markdownTable(
    [{ title: 'method' }, ...keeps.map((keep) => right(`keep ${keep}`))],
    swept.map((name) => [code(name), ...keeps.map((keep) => cell(name, keep))]),
  )
}

/** Methods that choose how much they keep, or that other shares come of. */
function shareTable({ by, keepsOf, methods, over }, layers) {
  const asked = methods.filter((name) => !FLOORS.includes(name) && (layers || keepsOf(name).length === 1))
  const lines = asked.flatMap((name) =>
    keepsOf(name).map((keep) => {
      const list = by.get(`${name} ${keep}`)
      const beside =
        layers && keep !== null && name !== 'random, layers' ? within(over(name, keep, 'random, layers')) : ''
      const cells = [
        code(name),
        keep ?? 'its own',
        percent(mean(list, 'share')),
        mean(list, 'logprob').toFixed(2).replace('-', '−'),
      ]
      return [...cells.map(String), within(over(name, keep)), ...(layers ? [beside] : []), percent(mean(list, 'exact'))]
    }),
  )
  if (lines.length === 0) return ''
  const columns = [
    { title: 'method' },
    right('keep'),
    right('of the cache'),
    right('log p'),
    right('over `random` of the same size'),
  ]
  return markdownTable([...columns, ...(layers ? [right('over `random` between layers')] : []), right('exact')], lines)
}

const code = (name) => name.replace(/^(\w+)/, '`$1`')

/** Each method's signs at all budgets, in every task and order. */
function glance(sets) {
  const columns = sets.map(({ query, task }) => right(query === 'none' ? task : `${task}, ${query}`))
  const names = [...new Set(sets.flatMap(({ made }) => made.methods))].filter(
    (name) => name !== 'full' && name !== 'random',
  )
  const sign = ({ high, low }) => (low > 0 ? '+' : high < 0 ? '−' : '=')
  const cell = (made, name) => {
    const keeps = made.keepsOf(name)
    return keeps.map((keep) => sign(made.over(name, keep, keep === null ? undefined : 'random'))).join(' ')
  }
  return markdownTable(
    [{ title: 'method' }, ...columns],
    names.map((name) => [code(name), ...sets.map(({ made }) => cell(made, name))]),
  )
}

function orders(found) {
  return [...groupsOf(found.cases, ({ query, task }) => `${task} ${query}`).values()].map((cases) => {
    const [{ length, query, task }] = cases
    return {
      grid: found.grid,
      task,
      query,
      length,
      asked: cases.filter(({ method }) => method === 'full').length,
      made: tableau(cases),
    }
  })
}

function tablesOf(grids) {
  const all = grids.flatMap(orders)
  const asked = all.filter(({ made }) => made.count > 1)
  const cache = asked.filter(({ grid }) => grid !== 'layers')
  const parts = asked.map(({ asked, grid, length, made, query, task }) => {
    const when = { after: 'question after compression', before: 'question before compression', none: 'no question' }[
      query
    ]
    const head = `${grid === 'layers' ? 'Between layers: ' : ''}\`${task}\`, ${length} tokens, ${when}: ${made.count} of ${asked} cases`
    const tables = grid === 'layers' ? [shareTable(made, true)] : [cacheTable(made), shareTable(made, false)]
    return [`### ${head}`, ...tables.filter((text) => text !== '')].join('\n\n')
  })
  const seconds = Math.round(grids.reduce((sum, one) => sum + one.seconds, 0) / 60)
  const none = all
    .filter(({ made }) => made.count <= 1)
    .map(({ asked, made, query, task }) => `\`${task}\` (${query}: ${made.count} of ${asked})`)
  const said = none.length > 0 ? ` Passed too seldom to say anything: ${none.join(', ')}.` : ''
  return [`${grids[0].file}, ${seconds} minutes of one thread.${said}`, glance(cache), ...parts].join('\n\n')
}

/** sets: of each model its grids; the first one's page is written too. */
export function writePages(sets, write) {
  let text = readFileSync(DOC, 'utf8')
  for (const grids of sets) {
    const page = tablesOf(grids)
    if (write) text = fill(text, grids[0].file.replace('.gguf', ''), page)
    else console.log(page)
  }
  if (!write) return
  writeFileSync(DOC, text)
  const [{ kind, model, version }] = sets[0]
  const joined = (what) => sets[0].filter(({ grid }) => grid === 'needle').flatMap((one) => one[what])
  const found = {
    kind,
    version,
    model,
    tasks: joined('tasks'),
    rows: joined('rows'),
    cases: joined('cases').filter(({ keep }) => MAPPED.includes(keep)),
    kept: joined('kept').filter(({ method, query }) => query === 'after' && PICTURED.includes(method)),
  }
  writeFileSync(PAGE, comparisonPage(found))
}
