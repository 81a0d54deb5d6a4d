// Pictures from the command line to the page, with a small tower in TypeScript (test/fake-tower.ts): what the page says is what the session did.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { VisualComparison } from '../lib/index.js'
import { fatesOf, stopsOf } from '../lib/report/fates.js'
import { png } from '../lib/report/png.js'
import { parseRun, type Run } from '../lib/report/run.js'
import { cli } from './cli-run.js'
import { fakeVision } from './fake-tower.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'
import { picture } from './pictures.js'

fakeVision()
const folder = scratch(t)
const tiny = writeGguf(join(folder, 'tiny.gguf'), tinyModel({ headSize: 32 }))
const images = [1, 2].map((seed) => {
  const file = join(folder, `${seed}.png`)
  writeFileSync(file, png(picture(20, 12, seed)))
  return file
})
const SEES = ['-m', tiny, '--vision', 'test/fixtures/vision/embedded.gguf']
const ASKS = [...SEES, '-p', 'hello', '-n', '2', ...images.flatMap((file) => ['--image', file])]

async function runOf(...methods: string[]): Promise<Run> {
  const words = ['generate', ...ASKS, '--json', ...methods.flatMap((one) => ['--method', one])]
  const { code, err, out } = await cli(words)
  t.same([code, err], [0, ''])
  return parseRun(JSON.parse(out), 'stdout') as Run
}

/** Patches that run at a stop. */
function patchesAt(run: Run, stop: number): number {
  const { gone } = fatesOf(run)
  return run.crops.flatMap(({ sources }) => sources).filter((source) => (gone[source] as number) > stop).length
}

t.test('a run with pictures', async (t) => {
  const run = await runOf()
  t.match(run.model, { layers: 4, tower: 2 })
  t.equal(run.crops.length, 2)
  t.match(run.crops[1], { kind: 'whole', image: 1, rows: 4, columns: 4 })
  t.match(run.tokens.join(''), 'hello')
  t.equal(new Set(run.crops.flatMap(({ sources }) => sources)).size, 32)
  t.equal(stopsOf(run), 7, 'two blocks, the projector, four layers')
  t.equal(patchesAt(run, 6), 32)
})

t.test('what went in the tower and in the layers', async (t) => {
  const random = await runOf('random:acts=vision,keep=0.25')
  t.same(
    [1, 2, 3].map((stop) => patchesAt(random, stop)),
    [32, 8, 8],
  )
  t.equal(random.stats.prompt.seen, random.prompt - 24)
  const grid = await runOf('grid:keep=0.5', 'random:acts=layers,layer=1,keep=0.25')
  t.same(
    [2, 3, 4].map((stop) => patchesAt(grid, stop)),
    [16, 16, 8],
  )
  const merged = await runOf('tome:keep=0.5')
  const { into } = fatesOf(merged)
  t.equal(Object.keys(into).length, 32 - patchesAt(merged, 6))
  t.ok(Object.keys(into).length > 0)
})

t.test('the page, and one of several budgets', async (t) => {
  const html = join(folder, 'page.html')
  const words = ['generate', ...ASKS, '--method', 'grid:keep=0.5', '--html', html, '--beside', '1,0.25']
  t.match(await cli(words), { code: 0, err: '' })
  const page = readFileSync(html, 'utf8')
  t.equal(page.match(/<img src="data:image\/png;base64/g)?.length, 2, 'each picture once')
  t.match(page, /<h3>everything kept<\/h3>[\s\S]*<h3>grid, keep 0.5<\/h3>[\s\S]*<h3>grid, keep 0.25<\/h3>/)
  t.match(page, /Picture 1[\s\S]*Picture 2/)
})

t.test('a method that finds no picture says so', async (t) => {
  const { code, err } = await cli(['generate', ...SEES, '-p', 'hello', '-n', '1', '--method', 'grid'])
  t.match({ code, err }, { code: 0, err: /^note: grid dropped nothing; it acts on an --image or --video alone/ })
})

t.test('compare --pictures', async (t) => {
  const file = join(folder, 'tasks.json')
  const asked = ['1.png', '2.png', '2.png'].map((image, i) => ({
    image,
    question: `hello ${i}`,
    answer: 'no',
    type: `t${i & 1}`,
  }))
  writeFileSync(file, JSON.stringify(asked))
  const words = ['compare', ...SEES, '--pictures', file, '--keep', '0.5,0.25', '--methods', 'vtcCls']
  const { code, err, out } = await cli([...words, '--json'])
  t.same([code, err], [0, ''])
  const { rows } = JSON.parse(out) as VisualComparison
  t.same(
    rows.map(({ keep, method, share }) => [method, keep, share]),
    [
      ['full', 1, 1],
      ['random', 0.5, 0.5],
      ['random', 0.25, 0.25],
      ['grid', 0.5, 0.5],
      ['grid', 0.25, 0.25],
      ['vtcCls', 0.5, 0.5],
      ['vtcCls', 0.25, 0.25],
    ],
  )
  t.ok(rows.every(({ vision }) => vision > 0))
  t.match((await cli(words)).out, /\| method +\| +keep[\s\S]*\| vtcCls +\| +0.25 [\s\S]*of\s+ideal:/)
})
