// Pages and the commands that make them: every picture has its numbers in a table, nothing is loaded from anywhere.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Comparison, PlanEntry, Row } from '../lib/index.js'
import { heatmapCells, heatmapsOf } from '../lib/report/heatmap.js'
import { el, table } from '../lib/report/html.js'
import { cacheLanes, sharesOf, tokenLanes, tokensOf } from '../lib/report/lanes.js'
import { frontOf, KL, LOGPROB } from '../lib/report/pareto.js'
import { planPage } from '../lib/report/plan.js'
import { short, tableOf } from '../lib/report/table.js'
import { cli } from './cli-run.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'

const folder = scratch(t)
const tiny = writeGguf(join(folder, 'tiny.gguf'), tinyModel({ headSize: 32 }))
const prose = join(folder, 'text.txt')
writeFileSync(prose, 'the sea is wide and the wind is cold and we sail on. '.repeat(12))
const evict = (layer: number, keptPerHead: number[][], step = 0): PlanEntry => {
  const after = keptPerHead.reduce((sum, kept) => sum + kept.length, 0)
  return { phase: 'prefill', step, layer, method: 'mine', action: 'evict', before: 20, after, keptPerHead }
}
const drop = (layer: number, kept: number[]): PlanEntry => {
  return { phase: 'prefill', step: 0, layer, method: 'cut', action: 'drop', before: 10, after: kept.length, kept }
}

t.test('a plan as lanes', async (t) => {
  const plan = [evict(1, [[0, 9], [3]]), evict(0, [[1], [2]]), evict(1, [[0], [3]], 5)]
  t.same(cacheLanes(plan), [
    { layer: 0, head: 0, kept: [1] },
    { layer: 0, head: 1, kept: [2] },
    { layer: 1, head: 0, kept: [0] },
    { layer: 1, head: 1, kept: [3] },
  ])
  t.equal(tokensOf(plan), 10)
  t.equal(tokensOf([evict(0, [[14], [2]])]), 15)
  const merge: PlanEntry = { ...drop(4, []), action: 'merge', into: [0, 0, 5], kept: undefined as never }
  t.same(tokenLanes([drop(2, [0, 5, 7]), merge], 6), [
    { layer: 2, kept: [0, 5, 7] },
    { layer: 3, kept: [0, 5, 7] },
    { layer: 4, kept: [0, 5] },
    { layer: 5, kept: [0, 5] },
  ])
  const pass: PlanEntry = { ...drop(1, [0, 3, 9]), action: 'pass', what: 'block' }
  t.same(tokenLanes([pass, drop(3, [0, 9])], 4), [
    { layer: 1, kept: [0, 3, 9] },
    { layer: 2, kept: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] },
    { layer: 3, kept: [0, 9] },
  ])
  t.same([...sharesOf([0, 1, 2, 9], 10, 5)], [1, 0.5, 0, 0, 0.5])
})

const estimate = (mean: number) => ({ mean, low: mean - 0.1, high: mean + 0.1 })
const row = (method: string, bytes: number, logprob: number, more: Partial<Row> = {}): Row => {
  const sure = { top1: estimate(0.5), exact: estimate(0.25), kl: estimate(-logprob) }
  const place = { task: 'needle', query: 'after', keep: 0.5, kv: 'f16', cases: 4, counted: 3 } as const
  return {
    ...place,
    ...sure,
    method,
    bytes,
    share: bytes / 100,
    logprob: estimate(logprob),
    effectiveLength: 0,
    ...more,
  }
}

t.test('the front: no other is smaller and better', async (t) => {
  const rows = [row('a', 10, -3), row('b', 20, -1), row('c', 30, -2), row('d', 20, -2), row('e', 40, -0.5)]
  const names = [...frontOf(rows, LOGPROB)].map(({ method }) => method)
  t.same(names, ['a', 'b', 'e'])
  t.same(
    [...frontOf(rows, KL)].map(({ method }) => method),
    names,
    'less divergence is better',
  )
})

t.test('cells', async (t) => {
  t.same([0, -0.004, 0.05, 1.234, -12].map(short), ['0.000', '−0.004', '0.050', '1.23', '−12.00'])
  const nothing = { mean: Number.NaN, low: Number.NaN, high: Number.NaN }
  const { cells, columns } = tableOf([row('a', 2048, -1, { overRandom: estimate(0.5), logprob: nothing })])
  const found = Object.fromEntries(columns.map(({ title }, i) => [title, cells[0]?.[i]]))
  t.match(found, { task: 'needle', keep: '0.5', cache: '2.0 KiB', 'log p': '–', 'over random': '+0.50 [+0.40, +0.60]' })
  t.match(found, { exact: '25 %', counted: '3 of 4' })
  t.notOk('kv' in found)
  t.ok(tableOf([row('a', 1, 1), row('a', 1, 1, { kv: 'q8_0' })]).columns.some(({ title }) => title === 'kv'))
})

t.test('heatmaps: the geometric mean over what counts', async (t) => {
  const one = (depth: number, length: number, p: number, counted = true) =>
    ({ ...row('a', 1, 0), depth, length, logprob: Math.log(p), counted, seed: 1 }) as never
  const cases = [
    one(0, 10, 0.5),
    one(0, 20, 0.25),
    one(0, 20, 1),
    one(1, 10, 0.9, false),
    one(1, 20, 1),
    one(1, 20, 0, false),
  ]
  t.same(heatmapCells(heatmapsOf(cases)), [
    ['a, keep 0.5', '0 %', '50 %', '50 %'],
    ['a, keep 0.5', '100 %', '–', '100 %'],
  ])
  t.same(heatmapsOf([one(0, 10, 1)]), [], 'one place is no map')
})

t.test('markup is escaped', async (t) => {
  t.equal(
    el('p', { title: '"<' }, '<b>&', 1, [el('i', {}, "'")]).text,
    '<p title="&quot;&lt;">&lt;b&gt;&amp;1<i>&#39;</i></p>',
  )
  t.match(table('a<b', [{ title: 'x>' }], [['<td>']]).text, /a&lt;b.*x&gt;.*&lt;td&gt;/s)
  t.match(planPage([{ ...evict(0, [[1]]), method: '<script>' }]), /&lt;script&gt;/)
})

/** Well-formed, self-contained, and no picture without a name and a table. */
function checkPage(t: Tap, page: string): void {
  const body = page.slice(page.indexOf('<body>'), page.indexOf('</html>'))
  const open: string[] = []
  for (const [, end, name = ''] of body.matchAll(/<(\/?)([a-z0-9]+)[^>]*>/g)) {
    if (end === '') open.push(name)
    else t.equal(open.pop(), name, 'elements end in order')
  }
  t.same(open, [])
  t.notMatch(page, /https?:|<script|<link|<img|@import|url\(|\son\w+=/i)
  t.match(
    page,
    /<html lang="en">[\s\S]*Content-Security-Policy" content="default-src 'none'[\s\S]*prefers-color-scheme: dark/,
  )
  t.notMatch(page, /NaN|undefined|Infinity/)
  const pictures = [...page.matchAll(/<svg [^>]*>/g)].map(([tag]) => tag)
  for (const tag of pictures) t.match(tag, /role="img" aria-label="[^"]{10,}"/)
  t.ok(pictures.length > 0 && page.includes('<caption>'))
  for (const id of page.matchAll(/href="#([^"]+)"/g)) t.match(page, `id="${id[1]}"`)
}
type Tap = Parameters<Parameters<typeof t.test>[0]>[0]

const COMPARE = ['compare', '-m', tiny, '--lengths', '150', '--depths', '2', '--seeds', '1', '--text', prose]

t.test('compare: JSON and a page; report draws the JSON again', async (t) => {
  const html = join(folder, 'page.html')
  const options = ['--method', 'snapkv:window=8', '--method', 'h2o+fastv:layer=1', '--method', 'snapkv:keep=0.7']
  const words = [...COMPARE, '--tasks', 'needle,text', '--keep', '0.5,0.25', ...options]
  const ran = await cli([...words, '--json', '--html', html])
  t.same([ran.code, ran.err], [0, ''])
  const found = JSON.parse(ran.out) as Comparison
  const text = found.rows.filter(({ task }) => task === 'text')
  const swept = ['random', 'recent', 'snapkv:window=8', 'h2o+fastv:layer=1'].flatMap((name) =>
    [0.5, 0.25].map((keep) => [name, keep]),
  )
  t.same(
    text.map(({ keep, method }) => [method, keep]),
    [['full', 1], ...swept, ['snapkv:keep=0.7', null]],
  )
  const page = readFileSync(html, 'utf8')
  checkPage(t, page)
  const titles = ['snapkv:window=8, keep 0.25: rows of the cache', 'tokens that reach a layer', 'KL to the full cache']
  for (const title of titles) t.ok(page.includes(title), title)
  t.match(page, /answers none of these cases/, 'a model with random weights finds no needle')
  t.same(
    readdirSync(folder).filter((name) => name.endsWith('.tmp')),
    [],
  )
  const saved = join(folder, 'run.json')
  writeFileSync(saved, ran.out)
  t.equal((await cli(['report', saved])).out, page)
})

t.test('compare: a table', async (t) => {
  const table = await cli([...COMPARE, '--keep', '0.5,0.25'], { columns: 100 })
  t.match(table.out, /\| task +\| question \| method[\s\S]*\| text +\| none +\| full [\s\S]*counted: cases/)
  t.match(table.err, /run 9 of 9: text, h2o keep 0\.25/)
})

t.test("prompts of one's own", async (t) => {
  const file = join(folder, 'prompts.jsonl')
  writeFileSync(
    file,
    '{"prompt":"the wind is cold and the sea is wide","answer":" hello"}\n{"prompt":"we sail on and on"}\n',
  )
  const { code, out } = await cli([
    'compare',
    '-m',
    tiny,
    '--prompts',
    file,
    '--keep',
    '0.5',
    '--question',
    'both',
    '--json',
  ])
  t.equal(code, 0)
  const { cases } = JSON.parse(out) as Comparison
  t.same(
    cases.filter(({ method }) => method === 'full').map(({ counted, query, task }) => [task, query, counted]),
    [
      ['prompts', 'none', true],
      ['prompts', 'none', true],
    ],
  )
  t.match(cases[0], { length: cases[0]?.tokens })
})

t.test('report draws the plan of a generation', async (t) => {
  const words = ['generate', '-m', tiny, '-p', 'the quick brown fox '.repeat(8), '-n', '3', '--json']
  const { out } = await cli([...words, '--method', 'snapkv:keep=0.5,window=4'])
  const { plan } = JSON.parse(out)
  const files = { run: JSON.stringify({ plan }), plan: JSON.stringify(plan), empty: '[]' }
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, `${name}.json`), content)
  const target = join(folder, 'plan.html')
  t.same(await cli(['report', join(folder, 'plan.json'), '-o', target]), { code: 0, out: '', err: '' })
  const page = readFileSync(target, 'utf8')
  checkPage(t, page)
  t.match(page, /<h1>plan\.json<\/h1>[\s\S]*snapkv: rows of the cache, 50 % of/)
  t.equal((await cli(['report', join(folder, 'run.json')])).out.replaceAll('run.json', 'plan.json'), page)
  t.match((await cli(['report', join(folder, 'empty.json')])).out, /Nothing was dropped/)
})

t.test('calibrate prints what a session takes', async (t) => {
  const words = [
    'calibrate',
    '-m',
    tiny,
    '--text',
    prose,
    '--length',
    '100',
    '--seeds',
    '1',
    '--keep',
    '0.5',
    '--methods',
    'snapkv',
    '--max-kl',
    '50',
  ]
  const ran = await cli(words)
  t.equal(ran.code, 0)
  t.match(JSON.parse(ran.out), {
    kind: 'tokensieve-calibration',
    methods: [{ method: 'snapkv', options: { keep: 0.5 } }],
  })
  t.match(ran.err, /^method +kv +keep +of full +KL\nsnapkv +f16 +0\.5 [\s\S]*picked \d/)
  const file = join(folder, 'found.json')
  t.equal((await cli([...words, '-o', file])).out, '')
  t.ok(existsSync(file))
  const said = ['generate', '-m', tiny, '-p', 'the sea is wide '.repeat(9), '-n', '2', '--json', '--quality', file]
  t.match(JSON.parse((await cli(said)).out).plan[0], { method: 'snapkv', action: 'evict' })
  t.match(await cli([...said, '--method', 'h2o']), { code: 2, err: /not both/ })
  writeFileSync(file, '{}')
  t.match(await cli(said), { code: 2, err: /what calibrate\(\) gives/ })
})

t.test('what cannot be meant', async (t) => {
  const bad = join(folder, 'bad.json')
  writeFileSync(bad, '{"plan": 3}')
  const cases: [string[], number, RegExp][] = [
    [['compare', '--task', 'magic'], 2, /Expected one of needle, .* for --task but received "magic"/],
    [['compare', '--task', 'prompts'], 2, /--prompts FILE/],
    [['compare', '--keep', '2'], 2, /--keep/],
    [['compare', '--question', 'never'], 2, /after, before or both/],
    [['compare', '--kv', 'q3'], 2, /"q3"/],
    [['compare', '--methods', 'magic'], 2, /Expected a method/],
    [['compare', '--prompts', '/no/such/file'], 1, /ERR_FILE_NOT_FOUND/],
    [['compare', '-m', tiny, '--text', prose, '--html', '/no/such/folder/page.html'], 1, /ENOENT.*folder/],
    [['calibrate', '--prompts', 'a', '--text', 'b'], 2, /not both/],
    [['report'], 2, /Expected RUN\.json/],
    [['report', bad], 1, /ERR_FILE_FORMAT/],
    [['report', tiny], 1, /expected JSON in .*ERR_FILE_FORMAT/],
  ]
  for (const [args, code, message] of cases) t.match(await cli(args), { code, out: '', err: message }, args.join(' '))
})
